from __future__ import annotations

from benchmarks.one_turnaround import _seconds
from benchmarks.turnaround import _growth, measure_growth
from gcc_search.footprint import in_fresh_process


def test_growth_is_what_each_trial_leaves_behind_once_the_process_is_warm():
    assert _growth([0] * 10 + [5] * 90) == 0
    assert _growth([3 * number for number in range(100)]) == 3


def test_a_process_is_looked_at_after_each_trial():
    growth = in_fresh_process(measure_growth, "cpu", 2)
    assert len(growth["resident_bytes_by_trial"]) == 2
    assert growth["reserved_bytes_by_trial"] == [0, 0]


def test_a_turnaround_is_from_the_scored_test_split_to_the_next_networks_first_step():
    before = {"saving": 0.0, "saved": 0.5, "scored": 2.0, "kept": 2.1, "returned": 2.3}
    after = {"begun": 2.35, "ready": 2.5, "step 1": 3.5, "step 2": 4.0}
    seconds = _seconds(before, after)
    assert round(seconds["turnaround"], 6) == 0.5
    assert round(seconds["made ready"], 6) == 0.15
    assert seconds["first step"] == 1.0
