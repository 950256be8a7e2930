"""How many networks a search trains and how long that takes, where the seconds of each are given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gcc_search.cost import Cost
from gcc_search.search.bill import Needed, count_networks, num_devices, seconds_in_all, trials_take_turns
from gcc_search.search.machines import Machines, Node, plan_machines
from gcc_search.vocabulary import Resources
from tests.search.conftest import make_space

ALPHA = {"alpha": {"distribution": "log_uniform_values", "min": 0.01, "max": 10}}
COST = Cost(trial_seconds=100, baseline_seconds=10, start_seconds=1)


def machines(*, gpus: int, cpus: int = 64, **resources) -> Machines:
    return plan_machines(Resources(**resources), gpus=gpus, nodes=[Node(host="there", num_cpus=cpus, num_gpus=gpus)])


def counts(**changes) -> tuple[int, int, int]:
    (needed,) = count_networks(make_space(**changes))
    return needed.trials, needed.baselines, needed.starts


@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        ({}, (20, 1, 1)),
        # A start network has a recipe of its own.
        ({"lr": {"values": [0.1, 0.01]}, "epochs": {"values": [1, 2, 3]}}, (20, 6, 1)),
        ({"lr": {"values": [0.1, 0.01]}, "seed": {"values": [0, 1, 2]}}, (20, 6, 3)),
        ({"image_size": {"values": [32, 48]}, "seed": {"values": [0, 1, 2]}}, (20, 6, 6)),
    ],
)
def test_start_networks_are_one_for_each_image_size_and_seed(searched, expected):
    assert counts(run_cap=20, parameters=ALPHA | searched) == expected


def test_a_search_has_no_more_baselines_and_start_networks_than_trials():
    assert counts(run_cap=4, parameters=ALPHA | {"seed": {"values": list(range(9))}}) == (4, 4, 4)


def test_without_a_start_network_none_is_counted():
    assert counts(weights="none", start=None) == (3, 1, 0)


@pytest.mark.parametrize(
    ("there", "devices", "take_turns"),
    [
        (machines(gpus=0, cpus=8, cpus_per_trial=2), 4, False),
        (machines(gpus=8), 8, False),
        (machines(gpus=8, gpus_per_trial=2), 4, False),
        (machines(gpus=2, trials_per_gpu=4), 2, True),
        (machines(gpus=2, gpus_per_trial=0.25), 2, True),
        # It shares with nobody.
        (machines(gpus=2, gpus_per_trial=0.6), 2, False),
        # Only so many trials have a CPU.
        (machines(gpus=8, cpus=3, trials_per_gpu=4), 3, False),
    ],
)
def test_trials_that_share_a_gpu_take_turns(there, devices, take_turns):
    assert (num_devices(there), trials_take_turns(there)) == (devices, take_turns)


def test_a_search_takes_what_its_networks_take_over_all_devices():
    needed = Needed(network="resnet18", trials=40, baselines=4, starts=2)
    assert needed.seconds(COST) == 4042
    assert seconds_in_all([(needed, COST)], machines(gpus=0, cpus=1)) == 4042
    assert seconds_in_all([(needed, COST)] * 2, machines(gpus=2)) == 4042
    assert seconds_in_all([(needed, COST)], machines(gpus=2, trials_per_gpu=4)) == 2021


@pytest.mark.parametrize(("trials", "gpus", "expected"), [(9, 8, 201), (17, 8, 301), (3, 64, 101)])
def test_however_many_devices_there_are_trials_wait_for_their_start_network(trials, gpus, expected):
    needed = Needed(network="resnet18", trials=trials, baselines=1, starts=1)
    assert int(seconds_in_all([(needed, COST)], machines(gpus=gpus))) == expected
    assert seconds_in_all([(needed, replace(COST, baseline_seconds=500))], machines(gpus=gpus)) == 501
