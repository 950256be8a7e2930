"""Which trials of a search are on its frontier, as far as it has come: those that the analysis will name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from gcc_search.objectives import METRICS, ranked_by
from gcc_search.pareto import non_dominated
from gcc_search.search.judging import Outcome
from gcc_search.search.study import objective_values
from gcc_search.space import SearchSpace


def find_frontier(space: SearchSpace, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Feasible trials, of all networks, that no other beats in every metric of `objectives.ranked_by`.

    Best in the search's first metric first.
    """
    feasible = [outcome for outcome in outcomes if outcome.job.is_trial and outcome.feasible]
    metrics = ranked_by(metric.name for metric in space.metrics)
    # None is NaN: of what is not known, nobody can say that it is not beaten.
    rows = np.array(
        [[outcome.record.validated(metric.column) for metric in metrics] for outcome in feasible], dtype=np.float64
    ).reshape(len(feasible), len(metrics))
    mask = non_dominated(rows, [metric.goal == "maximize" for metric in metrics])
    is_better_above = METRICS[space.metrics[0].name].goal == "maximize"
    return sorted(
        itertools.compress(feasible, mask),
        key=lambda outcome: objective_values(space, outcome.record)[0],
        reverse=is_better_above,
    )
