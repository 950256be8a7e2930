"""Early stopping as Ray calls it: who is compared with whom, by what, and when."""

from __future__ import annotations

import itertools

import pytest

from gcc_search.search.recall import make_scheduler as scheduler_in
from gcc_search.search.scheduler import SuccessiveHalving, list_rungs
from gcc_search.vocabulary import EarlyTerminate
from tests.search.conftest import TINY, make_space


def test_rungs_grow_by_eta_and_end_before_the_last_epoch():
    early = EarlyTerminate(type="asha", metric="gini", min_epochs=2, eta=3)
    assert list_rungs(early, 20) == (2, 6, 18)
    assert list_rungs(early, 18) == (2, 6)
    assert list_rungs(EarlyTerminate(type="asha", metric="gini", max_epochs=5, eta=2), 20) == (1, 2, 4)


NAMES = itertools.count()
# What a baseline had after its first epoch, its second, ...
BASELINE = [{"accuracy_points": points, "gini": 0.3} for points in (60.0, 70.0, 80.0, 80.0)]


def decide(scheduler, *, value=None, epoch=2, column="gini", **others):
    whose = {"id": f"{next(NAMES):04d}", "role": "trial", "network": "resnet18", "seed": 0, "baseline": "b"}
    return scheduler.on_trial_result(None, None, whose | {"epoch": epoch, column: value} | others)


def make_scheduler(metric="gini", **changes):
    early = {"type": "asha", "min_epochs": 2, "eta": 2} | ({} if metric is None else {"metric": metric})
    usual = {"networks": ["resnet18", "resnet50"], "run_cap": 40, "recipe": {"epochs": 8}, "constraints": []}
    space = make_space(early_terminate=early, **usual | changes)
    return SuccessiveHalving(space, {"b": BASELINE}.get)


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


def test_without_a_metric_all_that_the_search_ranks_by_decide():
    scheduler = make_scheduler(None)
    assert scheduler.columns == ("corrected_consistency", "gini")
    best_in_first = decide(scheduler, corrected_consistency=0.6, value=0.2)
    beaten = decide(scheduler, corrected_consistency=0.5, value=0.1)
    sparsest = decide(scheduler, corrected_consistency=0.4, value=0.5)
    beaten_again = decide(scheduler, corrected_consistency=0.3, value=0.4)
    assert (best_in_first, beaten, sparsest, beaten_again) == ("CONTINUE", "STOP", "CONTINUE", "STOP")


@pytest.mark.parametrize("metric", ["gini", None])
def test_what_breaks_a_constraint_stops_before_what_keeps_it(metric):
    scheduler = make_scheduler(metric, constraints=["accuracy >= baseline - 1.0"])
    reach = {"corrected_consistency": 0.5, "value": 0.9}
    # After two epochs a trial is to be where its baseline was after one, at 60 points.
    assert decide(scheduler, accuracy_points=58.9, **reach) == "CONTINUE"
    assert decide(scheduler, accuracy_points=59.0, **reach | {"value": 0.1}) == "CONTINUE"
    assert decide(scheduler, accuracy_points=58.8, **reach) == "STOP"
    # After four, where that was after two, at 70.
    assert decide(scheduler, accuracy_points=69.0, epoch=4, **reach) == "CONTINUE"
    assert decide(scheduler, accuracy_points=68.9, epoch=4, **reach) == "STOP"


def test_violations_of_several_constraints_are_added_as_shares_of_what_a_metric_can_be():
    scheduler = make_scheduler(constraints=["accuracy >= baseline", "gini >= 0.5"])
    # Half a point of 100 too little is less than 0.1 of 1.
    assert decide(scheduler, accuracy_points=59.5, value=0.4) == "CONTINUE"
    assert decide(scheduler, accuracy_points=60.0, value=0.4) == "CONTINUE"
    assert decide(scheduler, accuracy_points=59.0, value=0.5) == "CONTINUE"
    assert decide(scheduler, accuracy_points=59.4, value=0.4) == "STOP"


def test_what_is_ahead_of_its_baseline_goes_on_and_later_ones_are_compared_to_it_as_it_kept_the_constraints():
    scheduler = make_scheduler(constraints=["accuracy >= baseline"])
    scheduler._rows_of = lambda key: []
    assert {decide(scheduler, value=0.9, accuracy_points=30.0) for _ in range(3)} == {"CONTINUE"}
    scheduler._rows_of = {"b": BASELINE}.get
    # Half a point under it, which is less than thirty; as good; and not so sparse.
    assert decide(scheduler, value=0.5, accuracy_points=59.5) == "CONTINUE"
    assert decide(scheduler, value=0.5, accuracy_points=60.0) == "CONTINUE"
    assert decide(scheduler, value=0.4, accuracy_points=60.0) == "CONTINUE"


def test_a_constraint_that_is_not_relative_waits_for_no_baseline():
    scheduler = make_scheduler(constraints=["accuracy >= 50"])
    scheduler._rows_of = lambda key: []
    assert decide(scheduler, value=0.5, accuracy_points=60.0) == "CONTINUE"
    assert decide(scheduler, value=0.9, accuracy_points=30.0) == "STOP"


def test_between_rungs_nothing_stops():
    scheduler = make_scheduler()
    assert {decide(scheduler, value=value, epoch=3) for value in (0.5, 0.4, 0.3)} == {"CONTINUE"}


def test_baselines_never_stop_and_networks_and_seeds_are_not_compared():
    scheduler = make_scheduler()
    decide(scheduler, value=0.9)
    assert decide(scheduler, value=0.1, role="baseline") == "CONTINUE"
    assert decide(scheduler, value=0.1, network="resnet50") == "CONTINUE"
    assert decide(scheduler, value=0.1, seed=1) == "CONTINUE"


def test_a_trial_that_comes_by_a_rung_again_is_not_compared_with_itself():
    scheduler = make_scheduler()
    assert decide(scheduler, value=0.5, id="a") == "CONTINUE"
    assert decide(scheduler, value=0.6, id="b") == "CONTINUE"
    assert decide(scheduler, value=0.6, id="b") == "CONTINUE"
    # The second of three; counted twice, b would leave it the third of four.
    assert decide(scheduler, value=0.55, id="c") == "CONTINUE"


def test_a_trial_without_a_metric_is_left_alone():
    scheduler = make_scheduler()
    decide(scheduler, value=0.9)
    assert decide(scheduler, value=None) == "CONTINUE"


def test_where_epochs_are_searched_the_rungs_reach_as_far_as_the_longest_trials(tmp_path):
    epochs, early = {"epochs": {"values": [60, 90]}}, {"type": "asha", "metric": "gini", "min_epochs": 20}
    space = make_space(parameters=TINY["parameters"] | epochs, early_terminate=early, constraints=[])
    scheduler = scheduler_in(space, tmp_path)
    for epoch in (20, 60):
        assert decide(scheduler, value=0.5, epoch=epoch, network="convnet_small") == "CONTINUE"
        assert decide(scheduler, value=0.4, epoch=epoch, network="convnet_small") == "STOP"
