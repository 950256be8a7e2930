"""Which trials of a search are on its frontier, as far as it has come."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from gcc_search.objectives import METRICS
from gcc_search.pareto import non_dominated
from gcc_search.search.judging import Outcome
from gcc_search.search.study import objective_values
from gcc_search.space import SearchSpace


def find_frontier(space: SearchSpace, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Feasible trials that no other of their network beats in every metric, best in the first metric first."""
    maximise = [METRICS[metric.name].goal == "maximize" for metric in space.metrics]
    kept: list[Outcome] = []
    for network in space.networks:
        rivals = [o for o in outcomes if o.job.is_trial and o.feasible and o.job.settings.network == network]
        rows = np.array([objective_values(space, rival.record) for rival in rivals])
        if rivals:
            kept += itertools.compress(rivals, non_dominated(rows, maximise))
    return sorted(kept, key=lambda outcome: objective_values(space, outcome.record)[0], reverse=maximise[0])
