"""The frontier of a run as data: which feasible trials no other feasible trial beats in every metric ranked by.

Everything is decided on validation values. Test values stand beside them and are never chosen by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcc_search.analysis.feasibility import Question, is_feasible
from gcc_search.analysis.pairing import SCORED, Pair
from gcc_search.pareto import non_dominated
from gcc_search.results.schema import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network of the figure. `validation` and `test`: the metrics ranked by, by column; None is unknown."""

    id: str
    network: str
    status: str
    feasible: bool
    on_frontier: bool
    validation: dict[str, float | None]
    test: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The figure, redrawable from this alone.

    Args:
        metrics, maximise, constraints: what trials are ranked by and what must hold, see feasibility.py.
        points: trials that finished or collapsed.
        baselines: one point per baseline that they are compared to.
        edge: ids of the feasible trials that none beats in both Gini and C*, by rising Gini: the figure's line.
        gini_range, corrected_consistency_range: what the axes span: finished trials and baselines, and a margin.
        outside: collapsed trials without maps or beyond these ranges; ranges that held them would squeeze the rest.
    """

    metrics: tuple[str, ...]
    maximise: tuple[bool, ...]
    constraints: tuple[str, ...]
    points: tuple[Point, ...]
    baselines: tuple[Point, ...]
    edge: tuple[str, ...]
    gini_range: tuple[float, float]
    corrected_consistency_range: tuple[float, float]
    outside: int


def find_frontier(pairs: Sequence[Pair], question: Question) -> Frontier:
    """The frontier over the question's metrics, among trials that keep the run's constraints."""
    feasible = [pair for pair in pairs if is_feasible(pair, question.constraints)]
    columns = [metric.column for metric in question.metrics]
    maximise = tuple(metric.goal == "maximize" for metric in question.metrics)
    chosen = {pair.trial.id for pair in _best(feasible, columns, maximise)}
    kept = {pair.trial.id for pair in feasible}
    baselines = {pair.trial.baseline: pair.baseline for pair in pairs}
    framed = [*baselines.values(), *(pair.trial for pair in pairs if pair.trial.status == "finished")]
    gini_range, c_range = (_range(framed, column) for column in ("gini", "corrected_consistency"))
    return Frontier(
        metrics=tuple(metric.name for metric in question.metrics),
        maximise=maximise,
        constraints=tuple(constraint.text for constraint in question.constraints),
        points=tuple(_point(pair.trial, columns, pair.trial.id in kept, pair.trial.id in chosen) for pair in pairs),
        baselines=tuple(_point(baselines[key], columns, False, False) for key in sorted(baselines, key=str)),
        edge=_edge(feasible),
        gini_range=gini_range,
        corrected_consistency_range=c_range,
        outside=sum(
            pair.trial.status == "collapsed" and not _is_inside(pair.trial, gini_range, c_range) for pair in pairs
        ),
    )


def _range(records: Sequence[TrialRecord], column: str) -> tuple[float, float]:
    known = [value for record in records if (value := record.validated(column)) is not None]
    if not known:
        return (0.0, 1.0)
    margin = max(0.06 * (max(known) - min(known)), 0.01)
    return (min(known) - margin, max(known) + margin)


def _is_inside(record: TrialRecord, gini_range: tuple[float, float], c_range: tuple[float, float]) -> bool:
    gini, corrected = _known(record, "gini"), _known(record, "corrected_consistency")
    return gini_range[0] <= gini <= gini_range[1] and c_range[0] <= corrected <= c_range[1]


def _best(pairs: Sequence[Pair], columns: Sequence[str], maximise: Sequence[bool]) -> list[Pair]:
    rows = [[_known(pair.trial, column) for column in columns] for pair in pairs]
    mask = non_dominated(np.array(rows, dtype=np.float64).reshape(len(pairs), len(columns)), maximise)
    return [pair for pair, is_best in zip(pairs, mask, strict=True) if is_best]


def _edge(feasible: Sequence[Pair]) -> tuple[str, ...]:
    best = _best(feasible, ("gini", "corrected_consistency"), (True, True))
    return tuple(pair.trial.id for pair in sorted(best, key=lambda pair: (_known(pair.trial, "gini"), pair.trial.id)))


def _known(record: TrialRecord, column: str) -> float:
    value = record.validated(column)
    return np.nan if value is None else value


def _point(record: TrialRecord, shown: Sequence[str], feasible: bool, on_frontier: bool) -> Point:
    return Point(
        id=record.id,
        network=record.network,
        status=record.status,
        feasible=feasible,
        on_frontier=on_frontier,
        validation={column: record.validated(column) for column in shown},
        test={column: (record.test or {}).get(column) for column in shown},
    )


def say_none_feasible(frontier: Frontier, *, between: str = " and ") -> str:
    """`no feasible trial: none of 3 that finished kept accuracy >= baseline - 1`, or `... none finished (4 collapsed)`.

    What collapsed was given up before a constraint could be asked of it.
    """
    finished, collapsed = (sum(point.status == status for point in frontier.points) for status in SCORED)
    others = f" ({collapsed} collapsed)" if collapsed else ""
    if not finished:
        return f"no feasible trial: none finished{others}"
    return f"no feasible trial: none of {finished} that finished kept {between.join(frontier.constraints)}{others}"


def say_ranking(frontier: Frontier) -> str:
    """`accuracy, gini (lowest)`: the metrics ranked by; the highest is best where nothing else is said."""
    names = zip(frontier.metrics, frontier.maximise, strict=True)
    return ", ".join(name if up else f"{name} (lowest)" for name, up in names)
