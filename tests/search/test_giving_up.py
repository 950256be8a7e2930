"""How many failures are too many, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gcc_search.search.giving_up import MOST_UNFIT_IN_A_ROW, Failures
from gcc_search.search.retries import WORKER_DIED
from tests.search.test_study import make_record

FAILED = replace(make_record(status="failed"), reason="RuntimeError: no", node="pascal")
UNFIT = replace(FAILED, reason="WeightsError: weights: none there")


def test_trials_that_failed_are_counted_up_to_the_most_there_may_be():
    failures = Failures(2)
    failures.add_trial(make_record())
    failures.add_trial(FAILED)
    assert failures.add_attempt(FAILED, is_last=True) is None
    failures.add_trial(FAILED)
    assert failures.are_too_many
    assert failures.add_attempt(FAILED, is_last=True) == "no more trials are started: 2 failed (max_failed_trials)"
    # What is tried again, or finishes after all, is not to blame.
    assert failures.add_attempt(FAILED, is_last=False) is None
    assert failures.add_attempt(make_record(), is_last=True) is None


@pytest.mark.parametrize("status", ["finished", "stopped", "collapsed", "diverged"])
def test_a_trial_that_came_to_a_result_has_not_failed(status):
    failures = Failures(1)
    failures.add_trial(make_record(status=status))
    assert not failures.are_too_many


def test_attempts_that_fail_by_their_machine_are_too_many_in_a_row_and_stay_so():
    failures = Failures(None)
    told = [failures.add_attempt(UNFIT, is_last=False) for _ in range(MOST_UNFIT_IN_A_ROW - 1)]
    assert set(told) == {None}
    failures.add_attempt(FAILED, is_last=True)
    told = [failures.add_attempt(UNFIT, is_last=False) for _ in range(MOST_UNFIT_IN_A_ROW)]
    assert set(told[:-1]) == {None}
    assert told[-1] == (
        "no more trials are started: the last 10 attempts failed by their machine (pascal: WeightsError: weights: none "
        "there); mend it, or take it out, then resume"
    )
    assert failures.add_attempt(make_record(), is_last=True) is None
    assert failures.are_too_many


@pytest.mark.parametrize(
    ("reason", "epochs_done", "is_so"),
    [
        (WORKER_DIED, 0, True),
        (f"{WORKER_DIED}, before its first word (no folder)", 0, True),
        (WORKER_DIED, 1, False),
        # Many spot machines may be taken away at one time.
        ("the machine of its worker was lost", 0, False),
    ],
)
def test_workers_that_die_at_once_are_their_machines_doing(reason, epochs_done, is_so):
    failures, died = Failures(None), replace(FAILED, reason=reason, epochs_done=epochs_done, failures=["crash"])
    for _ in range(MOST_UNFIT_IN_A_ROW):
        failures.add_attempt(died, is_last=False)
    assert failures.are_too_many is is_so


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "pascal: WeightsError: weights: none there"),
        ({"reason": "its baseline failed: DataError: no images"}, "pascal: its baseline failed: DataError: no images"),
        ({"reason": "DataError: pascal: no images"}, "DataError: pascal: no images"),
        ({"status": "interrupted"}, None),
    ],
)
def test_a_machine_that_fails_attempts_is_named_once(changes, told):
    failures, ended = Failures(None), replace(UNFIT, **changes)
    (*_, last) = [failures.add_attempt(ended, is_last=False) for _ in range(MOST_UNFIT_IN_A_ROW)]
    assert (None if last is None else last.partition("their machine (")[2].partition("); mend it")[0]) == told


def test_with_a_number_of_trials_machines_are_not_judged():
    failures = Failures(5)
    for _ in range(2 * MOST_UNFIT_IN_A_ROW):
        assert failures.add_attempt(UNFIT, is_last=True) is None
    assert not failures.are_too_many
