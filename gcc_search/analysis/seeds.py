"""The same settings under several seeds: what one seed's difference is worth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gcc_search.analysis.comparable import comparable_settings, explanation_of
from gcc_search.analysis.measures import MEASURES, Measure
from gcc_search.analysis.pairing import Pair
from gcc_search.analysis.student import mean_interval

INTERVAL = "95 %, Student's t over seeds"


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """Trained - baseline of one measure, seed by seed, each with a baseline of its own seed.

    Args:
        collapsed: of the seeds, those under which the trial collapsed: given up, as a rule, and scored then.
        low, high: 95 % interval of the mean by Student's t with n - 1 degrees of freedom.
    """

    measure: str
    seeds: tuple[int, ...]
    collapsed: tuple[int, ...]
    mean: float
    low: float
    high: float


def over_seeds(chosen: Pair, pairs: Sequence[Pair]) -> tuple[SeedSpread, ...]:
    """A spread per measure, over trials that differ from `chosen` in nothing but the seed; none for a single seed.

    A seed under which the trial collapsed counts: it is what these settings lead to.
    """
    asked, explanation = _without_seed(chosen), explanation_of(chosen.trial)
    # Compared first, as it is: few trials share it, and writing settings as text takes its time.
    near = [pair for pair in pairs if explanation_of(pair.trial) == explanation]
    same = {pair.trial.settings["seed"]: pair for pair in near if _without_seed(pair) == asked}
    same[chosen.trial.settings["seed"]] = chosen
    spreads = (_spread(measure, same) for measure in MEASURES)
    return tuple(spread for spread in spreads if spread is not None)


def differs_in_more_than_seed(pair: Pair, other: Pair) -> bool:
    """Whether two trials have other settings, so that the choice between them was one of settings."""
    if explanation_of(pair.trial) != explanation_of(other.trial):
        return True
    return _without_seed(pair) != _without_seed(other)


def _without_seed(pair: Pair) -> str:
    settings = {name: value for name, value in comparable_settings(pair.trial).items() if name != "seed"}
    return json.dumps(settings, sort_keys=True)


def _spread(measure: Measure, by_seed: dict[int, Pair]) -> SeedSpread | None:
    found = {seed: _difference(measure, by_seed[seed]) for seed in sorted(by_seed)}
    known = {seed: value for seed, value in found.items() if value is not None}
    if len(known) < 2 or not _is_told(measure, by_seed.values()):
        return None
    mean, low, high = mean_interval(np.array(list(known.values())))
    return SeedSpread(
        measure=measure.name,
        seeds=tuple(known),
        collapsed=tuple(seed for seed in known if by_seed[seed].trial.status == "collapsed"),
        mean=float(mean),
        low=float(low),
        high=float(high),
    )


def say_which(spread: SeedSpread) -> str:
    """`seeds 0, 1, 2 (collapsed: 1)`."""
    seeds = f"seeds {', '.join(map(str, spread.seeds))}"
    return f"{seeds} (collapsed: {', '.join(map(str, spread.collapsed))})" if spread.collapsed else seeds


def _is_told(measure: Measure, pairs: Iterable[Pair]) -> bool:
    records = [record for pair in pairs for record in (pair.baseline, pair.trial)]
    means = ((record.test or {}).get(measure.recorded) for record in records)
    return measure.is_told(*(mean for mean in means if mean is not None))


def _difference(measure: Measure, pair: Pair) -> float | None:
    before, after = ((record.test or {}).get(measure.recorded) for record in (pair.baseline, pair.trial))
    return None if before is None or after is None else (after - before) * measure.recorded_scale
