"""What a sampler reads of a study's trials, as arrays that grow with it: no walk over all trials for each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.sampler import _get_reference_point, default_gamma_multiobjective
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from gcc_search.search.levels import Levels, Rows
from gcc_search.search.subset import Subset

# Not a state of Optuna's: a row that no trial has yet.
_NOT_ASKED = -1


class History:
    """The trials of one study with several metrics, a row for each, by number.

    `split` does as Optuna's `_split_trials` does, trial for trial (tests compare them), and takes a hundredth of its
    time at 10,000 trials.
    """

    def __init__(
        self, distributions: Mapping[str, BaseDistribution], directions: Sequence[StudyDirection], *, cap: int
    ) -> None:
        """`cap`: how many trials there can be at most."""
        self._distributions = distributions
        self._columns = {name: column for column, name in enumerate(distributions)}
        self._signs = np.array([-1.0 if goal == StudyDirection.MAXIMIZE else 1.0 for goal in directions])
        self._params = np.empty((cap, len(distributions)))
        self._states = np.full(cap, _NOT_ASKED)
        # By how much a trial violates its constraints, in all.
        self._penalties = np.zeros(cap)
        self._losses = np.empty((cap, len(directions)))
        self._levels = Levels(self._losses)
        self._chosen: tuple[bytes, Subset] | None = None
        self.num_told = 0

    def begin(self, trial: FrozenTrial) -> None:
        """A trial that was asked for, with all its settings."""
        self._states[trial.number] = trial.state
        for name, column in self._columns.items():
            self._params[trial.number, column] = self._distributions[name].to_internal_repr(trial.params[name])

    def end(self, trial: FrozenTrial) -> None:
        """A trial that has begun before, as it ended."""
        row = trial.number
        self._states[row] = trial.state
        self._penalties[row] = sum(value for value in trial.constraints.values() if value > 0)
        self.num_told += trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        if trial.state == TrialState.COMPLETE and self._penalties[row] == 0:
            self._losses[row] = np.array(trial.values) * self._signs
            self._levels.add(row)

    def observations(self, name: str, rows: Rows) -> NDArray[np.float64]:
        """What trials had for the parameter `name`, as Optuna's estimators take it."""
        values: NDArray[np.float64] = self._params[rows, self._columns[name]]
        return values

    def split(self) -> tuple[Rows, Rows]:
        """The best tenth of the trials that ended, and all others with those that run; each by number.

        Before feasible ones no pruned one counts as good, and before those none that violates a constraint.
        """
        is_feasible = self._penalties == 0
        complete, pruned = self._states == TrialState.COMPLETE, self._states == TrialState.PRUNED
        num_below = default_gamma_multiobjective(self.num_told)
        below = self._best(np.flatnonzero(complete & is_feasible), num_below)
        below = np.append(below, np.flatnonzero(pruned & is_feasible)[: num_below - len(below)])
        infeasible = np.flatnonzero((complete | pruned) & ~is_feasible)
        infeasible = infeasible[np.argsort(self._penalties[infeasible], kind="stable")]
        below = np.append(below, infeasible[: num_below - len(below)])
        is_above = complete | pruned | (self._states == TrialState.RUNNING)
        is_above[below] = False
        return np.sort(below), np.flatnonzero(is_above)

    def _best(self, rows: Rows, count: int) -> Rows:
        """The best `count` of feasible trials: whole levels, and of the last one those that add most hypervolume."""
        if count >= len(rows):
            return rows
        ranks = self._levels.ranks[rows]
        last = int(np.searchsorted(np.cumsum(np.bincount(ranks)), count, side="right"))
        whole, tied = rows[ranks < last], rows[ranks == last]
        if len(whole) == count:
            return whole
        return np.append(whole, self._choose(tied, count - len(whole)))

    def _choose(self, tied: Rows, count: int) -> Rows:
        """Goes on from before where it is the same question: a new trial seldom lands on the last level."""
        question = tied.tobytes()
        if self._chosen is None or question != self._chosen[0]:
            losses = self._losses[tied]
            self._chosen = (question, Subset(losses, _get_reference_point(losses)))
        return tied[self._chosen[1].choose(count)]
