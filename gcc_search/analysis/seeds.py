"""The same settings under several seeds: what one seed's difference is worth."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gcc_search.analysis.comparable import explanation_of, settings_but_seed
from gcc_search.analysis.measures import MEASURES, Measure
from gcc_search.analysis.pairing import Pair
from gcc_search.analysis.student import mean_interval
from gcc_search.results.schema import TrialRecord

INTERVAL = "95 %, Student's t over seeds"

Without = tuple[str, tuple[int, ...]]
"""What became of trials that have no value, and their seeds: `("diverged", (2, 4))`."""
_DIVERGED, _COLLAPSED, _STOPPED = "diverged", "collapsed, not measured", "stopped early"
_TOLD = {"stopped": _STOPPED, "diverged": _DIVERGED, "collapsed": _COLLAPSED}
_WAITING, _UNMEASURED = "without its baseline", "not measured"


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """Trained - baseline of one measure, seed by seed, each with a baseline of its own seed.

    Args:
        seeds: those that have a value.
        collapsed: of these, those under which the trial collapsed: given up, as a rule, and scored then.
        without: the seeds that have none, by what became of them.
        low, high: 95 % interval of the mean by Student's t with n - 1 degrees of freedom; None of a single value.
    """

    measure: str
    seeds: tuple[int, ...]
    collapsed: tuple[int, ...]
    without: tuple[Without, ...]
    mean: float
    low: float | None
    high: float | None

    @property
    def is_broken(self) -> bool:
        """Whether these settings led to nothing under a seed, or to less than others', so that the mean is too good."""
        return any(what in (_DIVERGED, _COLLAPSED, _STOPPED) for what, _ in self.without)


def over_seeds(chosen: Pair, pairs: Sequence[Pair], records: Sequence[TrialRecord]) -> tuple[SeedSpread, ...]:
    """A spread per measure, over trials that differ from `chosen` in nothing but the seed; none for a single seed.

    A seed under which the trial collapsed counts: it is what these settings lead to. One that has no value is named.

    Args:
        pairs: of trials that are scored.
        records: of all trials, whatever became of them.
    """
    is_alike, by_id = alike_to(chosen.trial), {pair.trial.id: pair for pair in pairs}
    alike = [record for record in records if is_alike(record)]
    same = {record.settings["seed"]: by_id[record.id] for record in alike if record.id in by_id}
    same[chosen.trial.settings["seed"]] = chosen
    spreads = (_spread(measure, same, alike) for measure in MEASURES)
    return tuple(spread for spread in spreads if spread is not None)


def alike_to(chosen: TrialRecord) -> Callable[[TrialRecord], bool]:
    """Whether a trial has the settings of `chosen` but for the seed; one that never saw its images has its images."""
    asked, explanation = settings_but_seed(chosen), explanation_of(chosen)

    def is_alike(record: TrialRecord) -> bool:
        # Compared first, as it is: few trials share it, and writing settings as text takes its time.
        if explanation_of(record) != explanation:
            return False
        seen = record.data_fingerprint or chosen.data_fingerprint
        return settings_but_seed(replace(record, data_fingerprint=seen)) == asked

    return is_alike


def _spread(measure: Measure, by_seed: dict[int, Pair], alike: Sequence[TrialRecord]) -> SeedSpread | None:
    found = {seed: _difference(measure, by_seed[seed]) for seed in sorted(by_seed)}
    known = {seed: value for seed, value in found.items() if value is not None}
    without = _find_without(alike, by_seed, known)
    if not known or len({*known, *(seed for _, seeds in without for seed in seeds)}) < 2:
        return None
    if not _is_told(measure, by_seed.values()):
        return None
    values = np.array(list(known.values()))
    mean, low, high = mean_interval(values) if len(values) > 1 else (values[0], None, None)
    return SeedSpread(
        measure=measure.name,
        seeds=tuple(known),
        collapsed=tuple(seed for seed in known if by_seed[seed].trial.status == "collapsed"),
        without=without,
        mean=float(mean),
        low=None if low is None else float(low),
        high=None if high is None else float(high),
    )


def _find_without(alike: Sequence[TrialRecord], scored: Container[int], known: Container[int]) -> tuple[Without, ...]:
    """The seeds without a value, by what became of their trials; one that diverged whatever a twin of it came to."""
    found: dict[str, set[int]] = {}
    for record in alike:
        seed = record.settings["seed"]
        if seed not in known or record.status == "diverged":
            unscored = _UNMEASURED if seed in scored else _WAITING
            what = unscored if record.status == "finished" else _TOLD.get(record.status, record.status)
            found.setdefault(what, set()).add(seed)
    return tuple((what, tuple(sorted(found[what]))) for what in sorted(found))


def say_which(spread: SeedSpread) -> str:
    """`seeds 0, 1, 2 (collapsed: 1; diverged: 3)`."""
    return f"seed{'s' * (len(spread.seeds) > 1)} {_join(spread.seeds)}{say_notes(spread)}"


def say_notes(spread: SeedSpread) -> str:
    """` (collapsed: 1; diverged: 3, 4)`: which of the seeds collapsed, and which have no value; nothing where none."""
    collapsed = [f"collapsed: {_join(spread.collapsed)}"] if spread.collapsed else []
    notes = "; ".join(filter(None, (*collapsed, say_without(spread))))
    return f" ({notes})" if notes else ""


def say_without(spread: SeedSpread) -> str:
    """`diverged: 3, 4; failed: 5`; nothing where all seeds have a value."""
    return "; ".join(f"{what}: {_join(seeds)}" for what, seeds in spread.without)


def _join(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def _is_told(measure: Measure, pairs: Iterable[Pair]) -> bool:
    records = [record for pair in pairs for record in (pair.baseline, pair.trial)]
    means = ((record.test or {}).get(measure.recorded) for record in records)
    return measure.is_told(*(mean for mean in means if mean is not None))


def _difference(measure: Measure, pair: Pair) -> float | None:
    before, after = ((record.test or {}).get(measure.recorded) for record in (pair.baseline, pair.trial))
    return None if before is None or after is None else (after - before) * measure.recorded_scale
