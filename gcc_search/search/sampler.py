"""Which sampler asks for a trial's settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from gcc_search.search.density import log_density
from gcc_search.search.history import History
from gcc_search.seeding import derive_seed
from gcc_search.space import SearchSpace

# Optuna's default of 10 random trials is most of a small search.
STARTUP_TRIALS = 10
# `HistorySampler` was written against these, and held to draw what they draw.
KNOWN_OPTUNA = "5.0."


class HistorySampler(TPESampler):
    """Draws what `TPESampler` draws for several metrics, to the bit.

    That one sorts all trials anew for each parameter and walks over them in Python a dozen times: at 10,000 trials with
    three parameters two thirds of a second for each trial.
    """

    def __init__(self, history: History, *, seed: int, n_startup_trials: int) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, constant_liar=True)
        self._history = history
        self._rows: tuple[np.ndarray, np.ndarray] | None = None

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._history.num_told < self._n_startup_trials:
            return super().sample_independent(study, trial, param_name, param_distribution)
        if self._rows is None:
            self._rows = self._history.split()
        below, above = (self._history.observations(param_name, rows) for rows in self._rows)
        space, fixed = {param_name: param_distribution}, self._parzen_estimator_parameters
        good = self._parzen_estimator_cls({param_name: below}, space, fixed, np.ones(len(below)))
        rest = self._parzen_estimator_cls({param_name: above}, space, fixed)
        drawn = good.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(drawn, log_density(good, drawn) - log_density(rest, drawn))
        return param_distribution.to_external_repr(best[param_name])


def make_sampler(space: SearchSpace, network: str, number: int, *, cap: int, history: History) -> BaseSampler:
    """The sampler of one trial. Made anew for each, from its number: there is no state to lose."""
    seed = derive_seed(space.seed, network, number, "sampler") % 2**32
    if space.method != "bayes":
        return RandomSampler(seed=seed)
    startup_trials = min(STARTUP_TRIALS, max(4, cap // 3))
    if len(space.metrics) > 1 and optuna.__version__.startswith(KNOWN_OPTUNA):
        return HistorySampler(history, seed=seed, n_startup_trials=startup_trials)
    return TPESampler(seed=seed, n_startup_trials=startup_trials, constant_liar=True)
