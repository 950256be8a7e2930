"""How the frontier grew while the search went on, and which of its trials is the balanced one.

Both on validation values, in which frontiers are decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcc_search.analysis.bootstrap import Floats
from gcc_search.analysis.feasibility import Question, is_feasible
from gcc_search.analysis.frontier import Frontier
from gcc_search.analysis.hypervolume import hypervolume
from gcc_search.analysis.pairing import Pair
from gcc_search.results.schema import TrialRecord


@dataclass(frozen=True, kw_only=True)
class GrowthStep:
    """The state after a trial ended. `device_seconds`: of all trials until then. `hypervolume`: 0 to 1."""

    trial: str
    device_seconds: float
    hypervolume: float
    num_feasible: int
    joined_frontier: bool


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The figure.

    Args:
        metrics: what trials are ranked by; each counts from its worst value (0) to its best (1): `reference`, the
            hypervolume's reference point, and `best`.
        steps: a step per trial that ended, in the order of their last update.
        knee: id of the trial on the frontier of C* and Gini farthest from the line between its ends, both axes scaled
            to the frontier's own span; None with fewer than three.
    """

    metrics: tuple[str, ...]
    reference: tuple[float, ...]
    best: tuple[float, ...]
    steps: tuple[GrowthStep, ...]
    knee: str | None


def find_growth(
    records: Sequence[TrialRecord], pairs: Sequence[Pair], question: Question, frontier: Frontier
) -> Growth:
    """Hypervolume of the feasible trials over the device time of all trials that ended, whatever became of them."""
    feasible = {pair.trial.id for pair in pairs if is_feasible(pair, question.constraints)}
    return Growth(
        metrics=tuple(metric.name for metric in question.metrics),
        reference=tuple(_ends(question)[0].tolist()),
        best=tuple(_ends(question)[1].tolist()),
        steps=grow(records, feasible, question),
        knee=find_knee(frontier),
    )


def _ends(question: Question) -> tuple[Floats, Floats]:
    """(worst, best) of each metric."""
    worst, best = np.array([(metric.worst, metric.best) for metric in question.metrics], dtype=np.float64).T
    return worst, best


def grow(records: Sequence[TrialRecord], feasible: set[str], question: Question) -> tuple[GrowthStep, ...]:
    """A step per trial of `records` that ended, in the order of their last update."""
    ended = [record for record in records if record.status != "running"]
    steps: list[GrowthStep] = []
    front = np.empty((0, len(question.metrics)))
    seconds, num_feasible, volume = 0.0, 0, 0.0
    for record in sorted(ended, key=lambda record: (record.updated, record.id)):
        seconds += record.device_seconds
        joined = False
        if record.id in feasible:
            num_feasible += 1
            front, joined = _join(front, _gains(record, question))
            volume = hypervolume(front) if joined else volume
        steps.append(
            GrowthStep(
                trial=record.id,
                device_seconds=seconds,
                hypervolume=volume,
                num_feasible=num_feasible,
                joined_frontier=joined,
            )
        )
    return tuple(steps)


def _gains(record: TrialRecord, question: Question) -> Floats:
    """Each metric from 0, its worst value, to 1, its best; NaN where it was not measured."""
    values = [record.validated(metric.column) for metric in question.metrics]
    worst, best = _ends(question)
    return (np.array([np.nan if value is None else value for value in values]) - worst) / (best - worst)


def _join(front: Floats, gains: Floats) -> tuple[Floats, bool]:
    """The frontier with one more candidate, and whether it is on it."""
    beats_it = (front >= gains).all(axis=1) & (front > gains).any(axis=1)
    if np.isnan(gains).any() or beats_it.any():
        return front, False
    is_beaten = (front <= gains).all(axis=1) & (front < gains).any(axis=1)
    return np.vstack([front[~is_beaten], gains]), True


def find_knee(frontier: Frontier) -> str | None:
    """The trial of `frontier.edge` farthest above the line between the edge's ends. Ties: the sparser one."""
    points = {point.id: point.validation for point in frontier.points}
    places = np.array(
        [[points[name]["gini"], points[name]["corrected_consistency"]] for name in frontier.edge], dtype=float
    )
    if len(places) < 3 or (np.ptp(places, axis=0) == 0).any():
        return None
    scaled = (places - places.min(axis=0)) / np.ptp(places, axis=0)
    # By rising Gini the edge falls from (0, 1) to (1, 0): the distance from that line is this, but for a root of two.
    above = scaled.sum(axis=1) - 1
    return frontier.edge[int(np.flatnonzero(above == above.max())[-1])] if above.max() > 0 else None
