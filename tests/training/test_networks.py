"""Networks against torchvision's own, and what becomes of weights of others."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.testing import assert_close

from gcc_search.errors import WeightsError
from gcc_search.settings import NETWORKS
from gcc_search.training.networks import CLASSIFIERS, build_network, empty_network, restore_network

FEATURES = {
    "resnet18": (512, 2),
    "resnet50": (2048, 2),
    "densenet121": (1024, 2),
    "efficientnet_b0": (1280, 2),
    "mobilenet_v3_large": (960, 2),
    "convnext_tiny": (768, 2),
    "swin_t": (768, 2),
    "convnet_small": (96, 8),
}
OF_TORCHVISION = tuple(name for name in FEATURES if name != "convnet_small")
WITH_DROPOUT = ("efficientnet_b0", "mobilenet_v3_large")


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


def test_a_space_file_may_name_every_network_and_no_other():
    assert set(NETWORKS) == CLASSIFIERS.keys()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_network_has_the_parts_that_its_kind_names(name):
    # Without numbers: some have a hundred million.
    with torch.device("meta"):
        network = empty_network(name, 10).eval()
        images = torch.zeros(1, 3, 224, 224)
        features = network.features(images)
        assert network.logits(features).shape == (1, 10)
    side = network.map_side(224)
    assert features.shape[1:] == (1 + side**2, 768) if name.startswith("vit") else features.shape[2:] == (side, side)
    assert network.num_classes == 10
    assert network.last_stage in [*network.modules()]


@pytest.mark.parametrize("name", FEATURES)
def test_a_network_is_restored_with_as_many_classes_as_it_had(name):
    tensors = random_network(name).float().model.state_dict()
    restored = restore_network(name, tensors, where="here")
    random_network(name).double()
    assert all(torch.equal(value, tensors[key]) for key, value in restored.model.state_dict().items())


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_maps_have_no_dropout(name, images):
    network = copy.deepcopy(random_network(name))
    features, classes = network.features(images), torch.tensor([3, 7])
    settled = network.maps(features, classes)
    network.train()
    assert_close(network.maps(features, classes), settled, rtol=0, atol=0)
    assert not torch.equal(network.logits(features), network.logits(features))


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


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "convnext_tiny", "resnet18"])
def test_of_a_classifier_only_the_layer_of_classes_may_be_missing(tmp_path, name):
    state = random_network(name).model.state_dict()
    of_classes = f"{random_network(name).layer_of_classes}."
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in state.items() if not key.startswith(of_classes)}, path)
    loaded = build_network(name, num_classes=4, weights=str(path), seed=1).model.state_dict()
    assert all(torch.equal(loaded[key], state[key].float()) for key in state if not key.startswith(of_classes))
    if "classifier.0.weight" in state:
        torch.save({key: value for key, value in state.items() if not key.startswith("classifier.")}, path)
        with pytest.raises(WeightsError, match=r"got no classifier\.0\.bias of its shape"):
            build_network(name, num_classes=4, weights=str(path), seed=1)


def test_published_weights_in_the_cache_are_used(tmp_path, monkeypatch):
    source = random_network("resnet18").model.state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    halves = {key: value.half() for key, value in source.items() if not key.startswith("fc.")}
    torch.save(halves, cache / "resnet18-f37072fd.pth")
    loaded = build_network("resnet18", num_classes=4, weights="IMAGENET1K_V1", seed=1)
    assert torch.equal(loaded.model.conv1.weight, halves["conv1.weight"].float())
