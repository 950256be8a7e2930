"""Our sampler draws what Optuna's own draws, to the bit; sorted levels are those of sorting anew."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna._hypervolume.hssp import _solve_hssp
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.trial import TrialState

from gcc_search.pareto import non_dominated
from gcc_search.search.density import log_density
from gcc_search.search.history import History
from gcc_search.search.levels import Levels
from gcc_search.search.sampler import KNOWN_OPTUNA, STARTUP_TRIALS, HistorySampler, make_sampler
from gcc_search.search.subset import Subset
from tests.search.conftest import make_space

TRIALS = 120
DISTRIBUTIONS = {
    "alpha": FloatDistribution(1e-3, 10, log=True),
    "p": FloatDistribution(0.5, 2),
    "distance": CategoricalDistribution(("ssim", "correlation", 3)),
    "seed": CategoricalDistribution((0,)),
    "batch_size": IntDistribution(8, 64),
}


def ask_and_tell(goals: list[str], *, decimals: int, told: list[str], make) -> list[dict[str, object]]:
    """What a study asks for, trial by trial: a few run at a time, and end as `told` has it, in turn."""
    study = optuna.create_study(directions=goals)
    history = History(DISTRIBUTIONS, study.directions, cap=TRIALS)
    generator, asked, running = np.random.default_rng(0), [], []
    for number in range(TRIALS):
        study.sampler = make(number, history)
        trial = study.ask(DISTRIBUTIONS)
        history.begin(study.get_trials(deepcopy=False)[number])
        running.append(trial)
        asked.append(dict(trial.params))
        if len(running) < 4:
            continue
        trial = running.pop(int(generator.integers(4)))
        how = told[trial.number % len(told)]
        if how in ("feasible", "infeasible"):
            # Rounded, many trials are equal.
            values = np.log(trial.params["alpha"]) * np.arange(1, len(goals) + 1) + generator.normal(size=len(goals))
            trial.set_constraint("accuracy", 1 + round(generator.random(), 1) if how == "infeasible" else -0.5)
            trial.set_constraint("trained", 0)
            study.tell(trial, [round(value, decimals) for value in values])
        else:
            study.tell(trial, state=TrialState.PRUNED if how == "pruned" else TrialState.FAIL)
        history.end(study.get_trials(deepcopy=False)[trial.number])
    return asked


@pytest.mark.parametrize(
    ("goals", "decimals"), [(["maximize", "minimize"], 0), (["maximize"] * 3, 0), (["maximize"] * 3, 8)]
)
@pytest.mark.parametrize(
    "told",
    [["feasible"], ["feasible", "pruned", "infeasible", "failed"], ["infeasible"], ["infeasible", "pruned"]],
    ids="-".join,
)
def test_the_sampler_draws_what_optunas_own_draws(goals, decimals, told):
    def reference(number, history):
        return TPESampler(seed=number, n_startup_trials=4, constant_liar=True)

    def ours(number, history):
        return HistorySampler(history, seed=number, n_startup_trials=4)

    drawn = [ask_and_tell(goals, decimals=decimals, told=told, make=make) for make in (reference, ours)]
    assert drawn[0] == drawn[1]


def test_another_optuna_samples_by_itself(monkeypatch):
    def made(**changes):
        return type(make_sampler(make_space(**changes), "convnet_small", 0, cap=9, history=None))

    assert optuna.__version__.startswith(KNOWN_OPTUNA), "compare the two again, then name the new version"
    assert made() is HistorySampler
    assert made(metrics=[{"name": "gini"}]) is TPESampler
    assert made(method="random") is RandomSampler
    monkeypatch.setattr(optuna, "__version__", "5.1.0")
    assert made() is TPESampler


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("decimals", [0, 8])
def test_levels_are_those_of_peeling_one_frontier_after_another(columns, decimals):
    points = np.round(np.random.default_rng(0).normal(size=(200, columns)), decimals)
    levels = Levels(points)
    for row in range(len(points)):
        levels.add(row)
    expected, left = np.full(len(points), -1), np.arange(len(points))
    for level in range(len(points)):
        on_frontier = non_dominated(points[left], [False] * columns)
        expected[left[on_frontier]], left = level, left[~on_frontier]
        if len(left) == 0:
            break
    assert levels.ranks.tolist() == expected.tolist()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_densities_are_optunas_to_the_bit(name, count):
    generator, distribution = np.random.RandomState(0), DISTRIBUTIONS[name]
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    told = [study.ask({name: distribution}).params[name] for _ in range(count)]
    values = np.array([distribution.to_internal_repr(value) for value in told])
    fixed = TPESampler()._parzen_estimator_parameters
    estimator = _ParzenEstimator({name: values}, {name: distribution}, fixed)
    drawn = estimator.sample(generator, 24)
    assert log_density(estimator, drawn).tolist() == estimator.log_pdf(drawn).tolist()
    if name == "p":
        beyond = {name: np.array([0.4, 1.0, 2.5])}
        assert log_density(estimator, beyond).tolist() == estimator.log_pdf(beyond).tolist()


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_subsets_are_those_that_optuna_chooses(columns):
    points = np.random.default_rng(0).normal(size=(4000, columns))
    points = np.repeat(points[non_dominated(points, [False] * columns)][:20], 2, axis=0)
    worst = points.max(axis=0)
    for reference in (worst, worst + 0.5, np.full(columns, np.inf)):
        subset = Subset(points, reference)
        for count in (7, 1, 12, len(points) // 2, len(points) - 1, len(points)):
            expected = _solve_hssp(points, np.arange(len(points)), count, reference)
            assert set(subset.choose(count)) == set(expected)


@pytest.mark.parametrize(("cap", "expected"), [(6, 4), (12, 4), (15, 5), (1000, STARTUP_TRIALS)])
def test_a_third_of_the_trials_at_most_are_drawn_blindly(cap, expected):
    history = History(DISTRIBUTIONS, [], cap=cap)
    assert make_sampler(make_space(), "convnet_small", 0, cap=cap, history=history)._n_startup_trials == expected


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_networks_are_drawn_for_apart(method):
    def first(network: str) -> dict[str, object]:
        history = History(DISTRIBUTIONS, [], cap=9)
        study = optuna.create_study(sampler=make_sampler(make_space(method=method), network, 0, cap=9, history=history))
        return study.ask(DISTRIBUTIONS).params

    assert first("resnet18") == first("resnet18")
    assert first("resnet18") != first("resnet50")
