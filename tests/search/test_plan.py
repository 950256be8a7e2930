"""What a plan takes a trial of a space to be like, and what it prints."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gcc_search.search import plan
from gcc_search.search.plan import Plan, _told, make_plan, mean_epochs, print_plan, to_json, usual_sample
from gcc_search.search.readiness import Prepared, SearchOptions, prepare_search
from gcc_search.space import load_space
from tests.search.conftest import make_space

SPACES = Path(__file__).parents[2] / "search_spaces"

ALPHA = {"alpha": {"distribution": "log_uniform_values", "min": 0.01, "max": 10}}


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ({"p": {"distribution": "uniform", "min": 0.5, "max": 2}}, 1.25),
        ({"warmup_epochs": {"distribution": "int_uniform", "min": 0, "max": 5}}, 2),
        ({"alpha": {"values": [1, 0]}}, 1),
        ({"alpha": {"value": 0}}, 0),
        ({"epochs": {"values": [90, 30, 60]}}, 60),
        ({"distance": {"values": ["correlation", "ssim"]}}, "ssim"),
        ({"ce_on_views": {"values": ["first", "both"]}}, "both"),
        ({"compared_at": {"values": ["half", "full"]}}, "full"),
        ({"detach": {"values": ["second-view", "head"]}}, "head"),
        ({"opposing": {"values": ["kept", "projected"]}}, "projected"),
        ({"sparsity": {"values": ["paper", "searched"]}}, "paper"),
    ],
)
def test_the_middle_of_numbers_and_the_costliest_or_the_first_of_words(parameter, expected):
    (name,) = parameter
    sample = usual_sample(make_space(parameters=ALPHA | parameter))
    assert (sample[name], type(sample[name])) == (expected, type(expected))


@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        ({}, 2),
        ({"epochs": {"value": 7}}, 7),
        ({"epochs": {"values": [1, 2]}}, 1.5),
        ({"epochs": {"values": [1, 2, 90]}}, 31),
    ],
)
def test_epochs_are_counted_by_their_mean(searched, expected):
    assert mean_epochs(make_space(parameters=ALPHA | searched)) == expected


def prepare(out: Path, **changes) -> Prepared:
    return prepare_search(make_space(**changes), SearchOptions(out=out, gpus=0), Console(file=io.StringIO()))


def planned(prepared: Prepared, **machines) -> Plan:
    return make_plan(replace(prepared, machines=replace(prepared.machines, **machines)), Console(file=io.StringIO()))


def printed(prepared: Prepared, **machines) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    print_plan(planned(prepared, **machines), console)
    return console.file.getvalue().splitlines()


def test_where_only_the_cluster_has_gpus_the_plan_goes_without_a_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    *_, networks, cost = printed(prepare(tmp_path), num_gpus=4, gpus_per_trial=1.0, slots=4)
    assert networks == "network   convnet_small: 3 trials, 1 baseline(s), 1 start network(s)"
    assert cost == "cost      not known: this machine has no GPU as the cluster has"


def test_gpus_that_are_still_to_join_are_not_waited_for_to_be_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    prepared = prepare(tmp_path, resources={"trials_per_gpu": "auto"})
    plan = planned(prepared, num_gpus=2, num_missing_gpus=2, gpus_per_trial=1.0, slots=2)
    assert (plan.prepared.packing, plan.costs) == (None, None)


@pytest.fixture
def timed(monkeypatch):
    """Settings that were timed. An epoch takes a second at 32 pixels, and no step is taken."""
    asked = []

    def guess(settings, *, epochs, start, data, device):
        asked.append((settings.recipe.image_size, len(data.train) > 0, device.type))
        seconds = epochs * settings.recipe.image_size / 32
        return plan.Cost(trial_seconds=seconds, baseline_seconds=seconds, start_seconds=start.epochs)

    monkeypatch.setattr(plan, "estimate_cost", guess)
    return asked


def test_each_image_size_is_timed_and_counts_by_the_mean(tmp_path, timed):
    sizes = {"image_size": {"values": [32, 96, 64]}, "epochs": {"values": [10, 30]}}
    *_, networks, cost, _ = printed(prepare(tmp_path, run_cap=30, parameters=ALPHA | sizes), slots=1)
    assert timed == [(32, True, "cpu"), (96, True, "cpu"), (64, True, "cpu")]
    # 20 epochs of 2 s each in the mean.
    counted = "30 trials of about 40 s, 6 baseline(s) of about 40 s, 3 start network(s) of about 2 s"
    assert networks == f"network   convnet_small: {counted}"
    assert cost == "cost      about 24 min on one device at a time, 24 min with 1 trials at a time"


@pytest.fixture
def thread_counts(monkeypatch):
    """Torch's threads while a network was timed; as many as before in the end."""
    before, counts = torch.get_num_threads(), []

    def guess(*_, **__):
        counts.append(torch.get_num_threads())
        return plan.Cost(trial_seconds=1, baseline_seconds=1, start_seconds=1)

    monkeypatch.setattr(plan, "estimate_cost", guess)
    yield counts
    torch.set_num_threads(before)


def test_a_network_is_timed_with_the_threads_of_a_trial_and_with_one_at_least(tmp_path, thread_counts):
    prepared = prepare(tmp_path)
    for cpus in (3, 2.5, 0.5):
        planned(prepared, cpus_per_trial=cpus, num_cpus=8)
    assert thread_counts == [3, 2, 1]


def test_early_stopping_is_said_to_make_it_less(tmp_path, timed):
    told = "          guessed from a few steps timed here"
    assert printed(prepare(tmp_path))[-1] == told
    early = {"type": "asha", "metric": "gini"}
    assert printed(prepare(tmp_path / "early", early_terminate=early))[-1] == f"{told}; early stopping makes it less"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5340, "89 min"), (5400, "1.5 h"), (86400, "24.0 h")],
)
def test_seconds_are_told_in_the_unit_in_which_they_are_few(seconds, told):
    assert _told(seconds) == told


def test_the_plan_says_what_is_searched_on_which_images_and_where(tmp_path, timed):
    data = {"name": "shapes", "num_images": 120, "test_fraction": 0.3, "validation_fraction": 0.2}
    changes = {"data": data, "constraints": ["accuracy >= baseline - 60", "gini >= 0.2"]}
    assert printed(prepare(tmp_path, **changes), num_cpus=8, slots=4)[:6] == [
        f"results   {tmp_path}/tiny",
        "images    shapes at 32 pixels: 8 classes, 72 training, 16 validation, 32 test",
        "devices   0 GPUs, 8 CPUs: 4 trials at a time",
        "search    bayes over alpha, beta",
        "ranks by  corrected_consistency, gini (validation split)",
        "where     accuracy >= baseline - 60 and gini >= 0.2",
    ]
    assert "where     anything goes" in printed(prepare(tmp_path / "free", constraints=[]))


def test_trials_that_share_a_gpu_are_said_to_take_turns(tmp_path, timed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpus = {"num_gpus": 2, "gpus_per_trial": 0.25, "slots": 8}
    *_, cost, _ = printed(prepare(tmp_path, run_cap=38), **gpus)
    assert timed == [(32, True, "cuda")]
    # 38 trials and a baseline of 2 s, and the start network's 2 s.
    told = "about 80 s on one device at a time, 40 s with 8 trials at a time, as if trials that share a GPU took turns"
    assert cost == f"cost      {told}"


def test_json_says_where_how_many_and_how_long(tmp_path, timed):
    networks = {"networks": ["convnet_small", "resnet18"], "recipe": {"epochs": 2, "image_size": 64}}
    networks["parameters"] = ALPHA | {"lr": {"values": [0.1, 0.01]}}
    content = json.loads(to_json(planned(prepare(tmp_path, run_cap=5, **networks), slots=2)))
    kinds = {"baselines": 2, "starts": 1}
    assert content == {
        "run": f"{tmp_path}/tiny",
        "trials": 5,
        "baselines": 4,
        "starts": 2,
        "networks": [{"network": "convnet_small", "trials": 3} | kinds, {"network": "resnet18", "trials": 2} | kinds],
        "trials_at_a_time": 2,
        # 9 of 4 s and 2 of 2 s.
        "device_seconds": 40.0,
        "seconds": 20.0,
    }


def test_json_has_no_seconds_where_only_the_cluster_has_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    content = json.loads(to_json(planned(prepare(tmp_path), num_gpus=4, gpus_per_trial=1.0, slots=4)))
    assert (content["trials"], content["device_seconds"], content["seconds"]) == (3, None, None)


def test_a_searched_term_is_in_the_loss_that_is_timed():
    space = make_space(parameters=ALPHA)
    explanation = space.settings("convnet_small", usual_sample(space)).explanation
    assert (explanation.alpha > 0, explanation.beta) == (True, 0)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_of_every_space_here_a_trial_can_be_timed(path):
    space = load_space(path)
    for network in space.networks:
        settings = space.settings(network, usual_sample(space))
        assert settings.explanation.alpha > 0 or settings.explanation.beta > 0
