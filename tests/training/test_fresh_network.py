from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from gcc_search.errors import WeightsError
from gcc_search.training.fresh_network import fresh_network
from gcc_search.training.networks import build_network


def make_fresh(weights="none", seed=0, name="convnet_small"):
    return fresh_network(name, num_classes=8, weights=str(weights), seed=seed)


@pytest.mark.parametrize("name", ["convnet_small", "resnet18"])
def test_every_trial_begins_with_the_very_network_that_is_built(name):
    built = build_network(name, num_classes=8, weights="none", seed=3).state_dict()
    for _ in range(2):
        fresh = make_fresh(name=name, seed=3).state_dict()
        assert all(torch.equal(built[key], fresh[key]) for key in built)
        assert all(built[key].stride() == fresh[key].stride() for key in built)


def test_what_one_trial_learns_the_next_one_does_not_know():
    with torch.no_grad():
        for parameter in make_fresh().parameters():
            parameter.zero_()
    assert any(bool(parameter.any()) for parameter in make_fresh().parameters())


def test_another_seed_is_another_network():
    assert not torch.equal(make_fresh(seed=0).head.weight, make_fresh(seed=1).head.weight)


def test_a_file_that_is_written_again_is_read_again(tmp_path):
    weights = tmp_path / "start.safetensors"
    for seed in (1, 2):
        built = build_network("convnet_small", num_classes=8, weights="none", seed=seed)
        save_file({key: value.contiguous() for key, value in built.model.state_dict().items()}, weights)
        assert torch.equal(make_fresh(weights).head.weight, built.head.weight)


def test_a_file_that_is_gone_is_an_error_though_it_was_read_before(tmp_path):
    weights = tmp_path / "start.safetensors"
    built = build_network("convnet_small", num_classes=8, weights="none", seed=1)
    save_file({key: value.contiguous() for key, value in built.model.state_dict().items()}, weights)
    make_fresh(weights)
    weights.unlink()
    with pytest.raises(WeightsError, match="got nothing there"):
        make_fresh(weights)
