"""What was sampled: which parameters a run varied, and what a trial's value of one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        choices: the values in order, where they are words or claims, or seeds, whose numbers say nothing; empty for
            numbers.
        sparsity: the form of the sparsity loss that a beta weighs, where trials have both; None elsewhere.
    """

    name: str
    is_log: bool
    choices: tuple[str, ...] = ()
    sparsity: str | None = None

    @property
    def label(self) -> str:
        """The name, `beta (sparsity: paper)` where betas are of two units."""
        return f"{self.name}{say_unit(self.sparsity)}"

    def is_sampled(self, record: TrialRecord) -> bool:
        """Whether the trial sampled the parameter, in this unit."""
        return self.name in record.sampled and self.sparsity in (None, sparsity_of(record))

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
    """Of the trials' `sampled`, alpha, beta and p first, the others by name; `network` is told apart elsewhere.

    Beta is two parameters where trials have both forms of the sparsity loss: see `sparsity_of`.
    """
    names = {name for record in records for name in record.sampled if name != "network"}
    ordered = sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    found = (
        _parameter(name, sparsity, [record.sampled[name] for record in ours if name in record.sampled])
        for name in ordered
        for sparsity, ours in (by_sparsity(records) if name == "beta" else {None: records}).items()
    )
    return tuple(parameter for parameter in found if parameter is not None)


def sparsity_of(record: TrialRecord) -> str:
    """The form of the sparsity loss that the trial's beta weighs.

    The two differ by 50,176 for p = 1 at 224 pixels, so betas of different forms are never laid on one axis.
    """
    return str(record.settings["explanation"].get("sparsity", "searched"))


def by_sparsity(records: Sequence[TrialRecord]) -> Mapping[str | None, Sequence[TrialRecord]]:
    """The trials of each form of the sparsity loss; all of them under None where there is one."""
    forms = sorted({sparsity_of(record) for record in records})
    if len(forms) < 2:
        return {None: records}
    return {form: [record for record in records if sparsity_of(record) == form] for form in forms}


_ORDER = {"alpha": 0, "beta": 1, "p": 2}


def say_unit(sparsity: str | None) -> str:
    """What stands behind `beta`: ` (sparsity: paper)`; nothing where all betas are of one unit."""
    return "" if sparsity is None else f" (sparsity: {sparsity})"


def _parameter(name: str, sparsity: str | None, values: Sequence[Any]) -> Parameter | None:
    if not values:
        return None
    is_seed = name == "seed"
    if is_seed or any(isinstance(value, str | bool | list) or value is None for value in values):
        choices = tuple(map(str, sorted(set(values)))) if is_seed else tuple(sorted({str(value) for value in values}))
        return Parameter(name=name, is_log=False, choices=choices) if len(choices) > 1 else None
    low, high = np.min(values), np.max(values)
    is_log = bool(low > 0 and high > LOG_SPAN * low)
    return Parameter(name=name, is_log=is_log, sparsity=sparsity) if low < high else None
