"""Networks against torchvision's own, and what becomes of weights of others."""

from __future__ import annotations

import functools

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.testing import assert_close

from gcc_search.errors import WeightsError
from gcc_search.training.networks import build_network

OF_TORCHVISION = ("resnet18", "resnet50", "convnext_tiny", "swin_t")
FEATURES = {
    "resnet18": (512, 2),
    "resnet50": (2048, 2),
    "convnext_tiny": (768, 2),
    "swin_t": (768, 2),
    "convnet_small": (96, 8),
}


@functools.cache
def random_network(name: str):
    """Ten classes, float64, in eval mode; shared by tests that only read it."""
    return build_network(name, num_classes=10, weights="none", seed=0).double().eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def build_small(weights: object, *, seed: int = 1):
    return build_network("convnet_small", num_classes=4, weights=str(weights), seed=seed)


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_logits_are_those_of_torchvisions_own_forward(name, images):
    network = random_network(name)
    assert_close(network(images), network.model(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FEATURES)
def test_the_head_of_the_pooled_features_is_the_whole_network(name, images):
    network = random_network(name)
    features = network.features(images)
    width, cells = FEATURES[name]
    assert features.shape == (2, width, cells, cells)
    assert_close(network.head(features.mean((2, 3))), network(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("size", [64, 95, 96, 97, 129])
def test_a_maps_side_is_known_before_there_is_one(name, size):
    with torch.no_grad():
        maps = random_network(name).features(torch.zeros(1, 3, size, size, dtype=torch.float64))
    assert maps.shape[2:] == (random_network(name).map_side(size),) * 2


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_parameters_keep_torchvisions_names(name):
    theirs = torchvision.models.get_model(name, weights=None, num_classes=10)
    theirs.load_state_dict(random_network(name).model.state_dict(), strict=True)


def test_logits_are_float32_under_autocast(images):
    network = build_small("none").eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert network.features(images.float()).dtype == torch.bfloat16
        assert network(images.float()).dtype == torch.float32


@pytest.mark.parametrize("name", ["convnet_small", "resnet18"])
def test_equal_seeds_give_equal_weights_and_others_give_others(name):
    states = [build_network(name, num_classes=4, weights="none", seed=s).state_dict() for s in (0, 0, 1)]
    weight = next(iter(states[0]))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0][weight], states[2][weight])


def test_random_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    torch.rand(1)
    build_small("none")
    after_one_draw = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.rand(1)
    assert torch.equal(torch.get_rng_state(), after_one_draw)


def test_networks_lie_channels_last_in_memory():
    weight = build_small("none").model.stages[1][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_half_precision_weights_without_a_classifier_load(tmp_path, suffix):
    source = build_small("none", seed=0).model.state_dict()
    halves = {key: value.half().contiguous() for key, value in source.items() if not key.startswith("fc.")}
    path = tmp_path / f"weights{suffix}"
    save_file(halves, path) if suffix == ".safetensors" else torch.save(halves, path)
    loaded, fresh = build_small(path).model.state_dict(), build_small("none").model.state_dict()
    assert all(torch.equal(loaded[key], halves[key].to(loaded[key].dtype)) for key in halves)
    assert torch.equal(loaded["fc.weight"], fresh["fc.weight"])


def test_a_classifier_of_another_size_starts_at_random(tmp_path):
    source = build_network("convnet_small", num_classes=9, weights="none", seed=0).model.state_dict()
    torch.save(source, tmp_path / "nine.pth")
    loaded = build_small(tmp_path / "nine.pth").model
    assert loaded.fc.weight.shape == (4, 96)
    assert torch.equal(loaded.stages[0][0].weight, source["stages.0.0.weight"])


def test_a_classifier_of_the_right_size_is_kept(tmp_path):
    source = build_small("none", seed=0).model.state_dict()
    torch.save(source, tmp_path / "four.pth")
    assert torch.equal(build_small(tmp_path / "four.pth").model.fc.weight, source["fc.weight"])


def test_weights_of_another_network_are_one_line(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(4, 96)}, path)
    with pytest.raises(WeightsError) as caught:
        build_small(path)
    rule = "must be of this network, got no stages.0.0.weight of its shape (20 tensors missing); check network"
    assert str(caught.value) == f"weights: {path}: {rule}"


def test_published_weights_in_the_cache_are_used(tmp_path, monkeypatch):
    source = random_network("resnet18").model.state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    halves = {key: value.half() for key, value in source.items() if not key.startswith("fc.")}
    torch.save(halves, cache / "resnet18-f37072fd.pth")
    loaded = build_network("resnet18", num_classes=4, weights="IMAGENET1K_V1", seed=1)
    assert torch.equal(loaded.model.conv1.weight, halves["conv1.weight"].float())
