"""The benchmark of handing out trials, at its smallest: real Ray, our driver, workers that train nothing."""

from __future__ import annotations

from benchmarks.no_work import Pace
from benchmarks.one_search import measure


def test_a_search_over_trials_that_train_nothing_is_measured(tmp_path):
    found = measure("ours", tmp_path, Pace(epochs=2, seconds=0, warm_up=0), trials=11, slots=1)
    assert found["marks"][-1]["trials"] == 12
    assert found["milliseconds_per_trial"] > 0
    assert found["marks"][-1]["parts"]["sampler"] > 0
    assert found["left"]["study_bytes"] > 0
