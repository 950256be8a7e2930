"""The benchmark of the input runs on made-up photographs and leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from benchmarks import input as input_benchmark
from benchmarks.input import Size, measure_input


def test_every_network_has_a_row_of_rates_and_times(monkeypatch, capsys):
    monkeypatch.setattr(input_benchmark, "NETWORKS", ("convnet_small",))
    small = Size(batch_size=4, num_steps=2, rounds=1, num_images=20)
    monkeypatch.setattr(input_benchmark, "SIZES", {"cpu": small, "cuda": small})
    cache = os.environ["GCC_SEARCH_CACHE"]
    found = measure_input(None)
    assert os.environ["GCC_SEARCH_CACHE"] == cache
    (row,) = found["input"]
    assert row["network"] == "convnet_small"
    assert row["input_to_step"] == pytest.approx(row["input_images_per_second"] / row["step_images_per_second"])
    assert row["second_trial_seconds"] > 0
    assert "2nd trial" in capsys.readouterr().out
