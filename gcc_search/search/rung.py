"""What trials reached after one epoch, under several objectives and constraints, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from optuna.samplers._tpe.sampler import _get_reference_point

from gcc_search.search.levels import Levels, Points, Rows
from gcc_search.search.subset import Subset


class Rung:
    """The best 1 / eta go on: first by how little they violate the constraints, then by non-domination.

    Of trials that do not beat each other those go on that are best in one objective, the first before the second, then
    those that together add most hypervolume, as the sampler chooses them. Equal ones go on together.

    Args:
        cap: how many trials can come by at most.
        num_objectives: how many losses each of them has.
    """

    def __init__(self, cap: int, num_objectives: int) -> None:
        self._rows: dict[str, int] = {}
        self._violations = np.empty(cap)
        self._losses = np.empty((cap, num_objectives))
        # Of those that keep the constraints; others have none.
        self._levels = Levels(self._losses)

    def add(self, trial_id: str, losses: Sequence[float], violation: float, *, eta: int) -> bool:
        """Whether this trial is among the best 1 / eta, rounded up, of all that have come by, itself included.

        One that comes by again, as it goes on from a checkpoint, is judged by what it reached first.

        Args:
            losses: of each objective; less is better, all finite.
            violation: by how much it violates the constraints; 0 where they hold.
        """
        row = self._rows.get(trial_id)
        if row is None:
            row = self._rows[trial_id] = len(self._rows)
            self._losses[row], self._violations[row] = losses, violation
            if violation == 0:
                self._levels.add(row)
        return self._is_among_best(row, math.ceil(len(self._rows) / eta))

    def _is_among_best(self, row: int, count: int) -> bool:
        num_better = int((self._violations[: len(self._rows)] < self._violations[row]).sum())
        if self._violations[row] > 0 or num_better >= count:
            return num_better < count
        ranks = self._levels.ranks
        num_better = int(((ranks >= 0) & (ranks < ranks[row])).sum())
        tied = np.flatnonzero(ranks == ranks[row])
        if num_better >= count or num_better + len(tied) <= count:
            return num_better < count
        chosen = tied[_choose(self._losses[tied], count - num_better)]
        return bool((self._losses[chosen] == self._losses[row]).all(axis=1).any())


def _choose(losses: Points, count: int) -> Rows:
    """Places of `count` of these points, of which none beats another."""
    # The ends of a frontier add little hypervolume, and are what is asked for.
    ends = np.array(list(dict.fromkeys(losses.argmin(axis=0).tolist())))[:count]
    others = np.setdiff1d(np.arange(len(losses)), ends)
    between = Subset(losses[others], _get_reference_point(losses)).choose(count - len(ends))
    return np.concatenate([ends, others[between]])
