"""Successive halving as a rule, and as Ray calls it."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import time

import pytest

from gcc_search.search.recall import make_scheduler as scheduler_of
from gcc_search.search.scheduler import Rung, SuccessiveHalving, list_rungs
from gcc_search.vocabulary import EarlyTerminate
from tests.search.conftest import TINY, make_space

ODD = (math.nan, math.inf, -math.inf, -0.0)


@pytest.mark.parametrize(
    ("value", "others", "eta", "expected"),
    [
        (0.1, [], 3, True),
        (0.1, [0.2], 3, False),
        (0.2, [0.1], 3, True),
        (0.2, [0.2], 3, True),
        (0.2, [0.3, 0.1, 0.1], 3, True),
        (0.2, [0.3, 0.25, 0.1], 3, False),
        (0.2, [0.3, 0.1, 0.1], 4, False),
    ],
)
def test_the_best_of_each_eta_go_on(value, others, eta, expected):
    rung = Rung()
    for number, other in enumerate(others):
        rung.add(f"other-{number}", other, eta=eta)
    assert rung.add("own", value, eta=eta) is expected


def survives(value, others, *, eta):
    """The rule, word for word."""
    better = sum(other > value for other in others)
    return better < math.ceil((len(others) + 1) / eta)


@pytest.mark.parametrize("seed", range(20))
def test_values_in_order_decide_as_a_walk_over_all_of_them_does(seed):
    draw, rung, reached = random.Random(seed), Rung(), {}
    eta, trials = draw.choice([2, 3, 4]), draw.choice([5, 40, 300])
    # Ties, both zeros, what is not finite; trials that come by again with another value.
    for _ in range(400):
        trial, value = f"{draw.randrange(trials)}", draw.choice([draw.random(), draw.randrange(-2, 3) / 2, *ODD])
        reached.pop(trial, None)
        assert rung.add(trial, value, eta=eta) is survives(value, list(reached.values()), eta=eta)
        reached[trial] = value


def test_the_last_of_many_trials_waits_no_longer_than_the_first():
    rung, draw = Rung(), random.Random(0)
    seconds = []
    for number in range(20_000):
        begun = time.perf_counter()
        rung.add(f"{number}", draw.random(), eta=3)
        seconds.append(time.perf_counter() - begun)
    # Walking over all of them, the last ones took half a millisecond each.
    assert statistics.median(seconds[-1000:]) < 1e-4


def test_rungs_grow_by_eta_and_end_before_the_last_epoch():
    early = EarlyTerminate(type="asha", metric="gini", min_epochs=2, eta=3)
    assert list_rungs(early, 20) == (2, 6, 18)
    assert list_rungs(early, 18) == (2, 6)
    assert list_rungs(EarlyTerminate(type="asha", metric="gini", max_epochs=5, eta=2), 20) == (1, 2, 4)


NAMES = itertools.count()


def decide(scheduler, *, value, epoch=1, role="trial", network="resnet18", column="gini", trial_id=None):
    name = f"{network}-{next(NAMES):04d}" if trial_id is None else trial_id
    result = {"id": name, "role": role, "network": network, "epoch": epoch, column: value}
    return scheduler.on_trial_result(None, None, result)


def make_scheduler(metric="gini"):
    return SuccessiveHalving(EarlyTerminate(type="asha", metric=metric, eta=2), epochs=8)


def test_a_worse_trial_stops_at_a_rung():
    scheduler = make_scheduler()
    assert decide(scheduler, value=0.5) == "CONTINUE"
    assert decide(scheduler, value=0.4) == "STOP"
    assert decide(scheduler, value=0.6) == "CONTINUE"


def test_less_is_better_where_the_metric_is_minimised():
    scheduler = make_scheduler("mass_half")
    assert decide(scheduler, value=0.5, column="mass_half") == "CONTINUE"
    assert decide(scheduler, value=0.4, column="mass_half") == "CONTINUE"
    assert decide(scheduler, value=0.6, column="mass_half") == "STOP"


def test_between_rungs_nothing_stops():
    scheduler = make_scheduler()
    assert {decide(scheduler, value=value, epoch=3) for value in (0.5, 0.4, 0.3)} == {"CONTINUE"}


def test_baselines_never_stop_and_networks_are_not_compared():
    scheduler = make_scheduler()
    decide(scheduler, value=0.9)
    assert decide(scheduler, value=0.1, role="baseline") == "CONTINUE"
    assert decide(scheduler, value=0.1, network="resnet50") == "CONTINUE"


def test_a_trial_that_comes_by_a_rung_again_is_not_compared_with_itself():
    scheduler = make_scheduler()
    assert decide(scheduler, value=0.5, trial_id="a") == "CONTINUE"
    assert decide(scheduler, value=0.6, trial_id="b") == "CONTINUE"
    assert decide(scheduler, value=0.6, trial_id="b") == "CONTINUE"
    # The second of three; counted twice, b would leave it the third of four.
    assert decide(scheduler, value=0.55, trial_id="c") == "CONTINUE"


def test_a_trial_without_the_metric_is_left_alone():
    scheduler = make_scheduler()
    decide(scheduler, value=0.9)
    assert decide(scheduler, value=None) == "CONTINUE"


def test_where_epochs_are_searched_the_rungs_reach_as_far_as_the_longest_trials():
    epochs, early = {"epochs": {"values": [60, 90]}}, {"type": "asha", "metric": "gini", "min_epochs": 20}
    scheduler = scheduler_of(make_space(parameters=TINY["parameters"] | epochs, early_terminate=early))
    for epoch in (20, 60):
        assert decide(scheduler, value=0.5, epoch=epoch) == "CONTINUE"
        assert decide(scheduler, value=0.4, epoch=epoch) == "STOP"
