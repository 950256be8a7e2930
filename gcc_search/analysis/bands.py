"""What another seed would have found: per-seed curves, their mean, and its 95 % band by Student's t over seeds.

Two curves, both on validation values: attainment, the highest C* of a feasible trial whose Gini is at least g, over g;
and hypervolume over device time. A seed is a trial's `settings["seed"]`: a searched parameter, or one for each of
several runs read together.

There is no band where a sampler that learns (`method: bayes`) dealt out several seeds in one run: each seed's curve
then profits from the others' trials. In made-up searches of three seeds with twenty trials each, such a band held the
mean of seeds searched alone in 58 %, and that of separate searches in 94 %. Of one random search of three seeds it
holds it in 80 to 84 %, as values are skewed.

Comparable are only seeds with equal networks and equal budgets, so every seed counts up to the device time of the
seed with least. Gini starts at the lowest of any feasible trial, and ends where the first seed has none so sparse.
The band holds at each place by itself, not everywhere at once. Of two or three seeds it is wide, 12.7 and 4.3 standard
errors to each side, and may reach beyond what C* and hypervolume can be: so few say little of the mean of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gcc_search.analysis.bootstrap import Floats
from gcc_search.analysis.feasibility import Question, is_feasible
from gcc_search.analysis.growth import GrowthStep, grow
from gcc_search.analysis.pairing import Pair
from gcc_search.analysis.student import mean_interval
from gcc_search.results.schema import TrialRecord

PLACES = 101
SHARED_SAMPLER = "seeds shared one sampler: no interval"


@dataclass(frozen=True, kw_only=True)
class Band:
    """A curve for each seed over shared `places`, in the order of `seeds`; their mean and its 95 % interval."""

    seeds: tuple[int, ...]
    places: tuple[float, ...]
    curves: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Bands:
    """What the frontier's and the growth's figure show of the seeds.

    Args:
        device_seconds: of each seed's trials, in the order in which they ended, that count: the shortest seed's total.
        attainment: C* over Gini. growth: hypervolume over device seconds. None where there is no band.
        attainment_missing, growth_missing: why there is none; empty where there is one.
    """

    device_seconds: float
    attainment: Band | None
    growth: Band | None
    attainment_missing: str
    growth_missing: str


def find_bands(
    records: Sequence[TrialRecord], pairs: Sequence[Pair], question: Question, space: Mapping[str, Any]
) -> Bands:
    """Bands over the seeds of `records`, trials of any status; none for one seed, or seeds that cannot be compared.

    Args:
        space: of run.json, or of several runs as `several` joins them: how the trials were drawn.
    """
    by_seed = _by_seed(records)
    missing = _incomparable(by_seed) or (SHARED_SAMPLER if _share_a_sampler(records, space) else "")
    if missing:
        return _without(missing)
    feasible = {pair.trial.id: pair.trial for pair in pairs if is_feasible(pair, question.constraints)}
    steps = {seed: grow(ours, set(feasible), question) for seed, ours in by_seed.items()}
    unfinished = [seed for seed, ours in steps.items() if not ours]
    if unfinished:
        return _without(f"no trial of seed {unfinished[0]} has ended: no band over seeds")
    budget = min(ours[-1].device_seconds for ours in steps.values())
    places = np.linspace(0.0, budget, PLACES)
    attainment, attainment_missing = _attainment(steps, feasible, budget)
    return Bands(
        device_seconds=budget,
        attainment=attainment,
        growth=_band(tuple(steps), places, [_volume_over(places, ours) for ours in steps.values()]),
        attainment_missing=attainment_missing,
        growth_missing="",
    )


def _by_seed(records: Sequence[TrialRecord]) -> dict[int, list[TrialRecord]]:
    found: dict[int, list[TrialRecord]] = {}
    for record in records:
        found.setdefault(record.settings["seed"], []).append(record)
    return {seed: found[seed] for seed in sorted(found)}


def _incomparable(by_seed: dict[int, list[TrialRecord]]) -> str:
    if len(by_seed) < 2:
        return "one seed: no band"
    networks = {frozenset(record.network for record in ours) for ours in by_seed.values()}
    return "seeds have different networks: no band" if len(networks) > 1 else ""


def _share_a_sampler(records: Sequence[TrialRecord], space: Mapping[str, Any]) -> bool:
    """Whether one sampler that learns drew trials of several seeds; each run has one for each network."""
    methods = space.get("methods", {})
    seeds: dict[tuple[str, str], set[int]] = {}
    for record in records:
        run, _, _ = record.id.rpartition("/")
        if methods.get(run, space.get("method")) == "bayes":
            seeds.setdefault((run, record.network), set()).add(record.settings["seed"])
    return any(len(ours) > 1 for ours in seeds.values())


def _without(missing: str) -> Bands:
    return Bands(device_seconds=0.0, attainment=None, growth=None, attainment_missing=missing, growth_missing=missing)


def _attainment(
    steps: dict[int, tuple[GrowthStep, ...]], feasible: dict[str, TrialRecord], budget: float
) -> tuple[Band | None, str]:
    """The band, or why there is none."""
    found = {seed: _places_within(ours, feasible, budget) for seed, ours in steps.items()}
    empty = [seed for seed, places in found.items() if not len(places)]
    if empty:
        return None, f"no feasible trial of seed {empty[0]}: no band over seeds"
    start = min(places[:, 0].min() for places in found.values())
    end = min(places[:, 0].max() for places in found.values())
    gini = np.linspace(start, end, PLACES)
    return _band(tuple(found), gini, [_attained(gini, places) for places in found.values()]), ""


def _places_within(steps: Sequence[GrowthStep], feasible: dict[str, TrialRecord], budget: float) -> Floats:
    """(Gini, C*) of the feasible trials that ended within `budget` device seconds, (trials, 2)."""
    # The same seconds summed in another order differ in their last bits.
    ended = [feasible[step.trial] for step in steps if step.trial in feasible and step.device_seconds <= budget + 1e-6]
    validation = [record.validation or {} for record in ended]
    places = [[values.get("gini"), values.get("corrected_consistency")] for values in validation]
    known = [place for place in places if None not in place]
    return np.array(known, dtype=np.float64).reshape(-1, 2)


def _attained(gini: Floats, places: Floats) -> Floats:
    """The highest C* of the `places` with at least each Gini; none of `gini` lies beyond the sparsest of them."""
    ordered = places[np.argsort(places[:, 0], kind="stable")]
    best_from = np.maximum.accumulate(ordered[::-1, 1])[::-1]
    # linspace may end a bit beyond the end it was given.
    first = np.minimum(np.searchsorted(ordered[:, 0], gini, side="left"), len(ordered) - 1)
    return np.asarray(best_from[first], dtype=np.float64)


def _volume_over(seconds: Floats, steps: Sequence[GrowthStep]) -> Floats:
    """Hypervolume of the trials that had ended by each of `seconds`."""
    ends = np.array([step.device_seconds for step in steps])
    volumes = np.array([0.0, *(step.hypervolume for step in steps)])
    return np.asarray(volumes[np.searchsorted(ends, seconds + 1e-6, side="right")], dtype=np.float64)


def _band(seeds: tuple[int, ...], places: Floats, curves: Sequence[Floats]) -> Band:
    stacked = np.array(curves)
    mean, low, high = mean_interval(stacked)
    return Band(
        seeds=seeds,
        places=tuple(places.tolist()),
        curves=tuple(tuple(curve) for curve in stacked.tolist()),
        mean=tuple(mean.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
    )
