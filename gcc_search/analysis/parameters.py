"""What was sampled: which parameters a run varied, and what a trial's value of one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gcc_search.results.schema import TrialRecord

# Values that span more than a factor of twenty are read by their decade.
LOG_SPAN = 20.0


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A sampled parameter that takes more than one value.

    Args:
        name: as in the space file: `alpha`, `lr`, `distance`.
        is_log: numbers, all above 0, over more than a decade or so.
        choices: the values in order, where they are words or claims; empty for numbers.
    """

    name: str
    is_log: bool
    choices: tuple[str, ...] = ()

    def place(self, value: Any) -> float:
        """Where `value` stands on an axis: the number itself, or the choice's position from 0."""
        return float(self.choices.index(str(value))) if self.choices else float(value)

    def axis_range(self, places: Sequence[float]) -> tuple[float, float]:
        """What an axis spans that shows all `places`, with a margin."""
        low, high = min(places), max(places)
        if self.choices:
            return (-0.5, len(self.choices) - 0.5)
        if self.is_log:
            margin = (high / low) ** 0.05
            return (low / margin, high * margin)
        return (low - 0.05 * (high - low), high + 0.05 * (high - low))


def find_parameters(records: Sequence[TrialRecord]) -> tuple[Parameter, ...]:
    """Of the trials' `sampled`, alpha, beta and p first, the others by name; `network` is told apart elsewhere."""
    names = {name for record in records for name in record.sampled if name != "network"}
    ordered = sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    found = (_parameter(name, [r.sampled[name] for r in records if name in r.sampled]) for name in ordered)
    return tuple(parameter for parameter in found if parameter is not None)


_ORDER = {"alpha": 0, "beta": 1, "p": 2}


def _parameter(name: str, values: Sequence[Any]) -> Parameter | None:
    if any(isinstance(value, str | bool | list) or value is None for value in values):
        choices = tuple(sorted({str(value) for value in values}))
        return Parameter(name=name, is_log=False, choices=choices) if len(choices) > 1 else None
    low, high = np.min(values), np.max(values)
    return Parameter(name=name, is_log=bool(low > 0 and high > LOG_SPAN * low)) if low < high else None
