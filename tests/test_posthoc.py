"""Other methods' heatmaps: every name works on every kind of network, and Grad-CAM by another hand is ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gcc_search.errors import SpaceError
from gcc_search.posthoc import METHODS, parse_methods, posthoc_heatmap
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import upsample
from gcc_search.training.networks import build_network


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network_of(name):
    return build_network(name, num_classes=4, weights="none", seed=0).eval()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_heatmap_of_the_image_and_says_nothing(image, method, capfd):
    heatmap = posthoc_heatmap(network_of("convnet_small"), image, 1, method)
    assert heatmap.shape == (64, 64)
    assert heatmap.min() >= 0
    assert heatmap.max() <= 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_the_larger_networks_have_their_last_stage_too(image, name):
    assert posthoc_heatmap(network_of(name), image, 1, "gradcam++").shape == (64, 64)


def test_grad_cam_by_another_hand_is_the_positive_part_of_ours(image):
    network = network_of("convnet_small")
    maps = gradcam(network.features(image), network.head, torch.tensor([2])).detach()
    full = upsample(maps.relu(), 64)[0].numpy()
    # Without the eps of `normalise`: an untrained network's maps are so flat that it takes half a percent.
    ours = (full - full.min()) / (full.max() - full.min())
    # Its resizing is OpenCV's, and it scales before and after.
    np.testing.assert_allclose(posthoc_heatmap(network, image, 2, "gradcam"), ours, atol=2e-3)


def test_a_network_is_left_as_it_was(image):
    network = network_of("convnet_small")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for method in ("scorecam", "ablationcam", "gradcam"):
        posthoc_heatmap(network, image, 0, method)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.last_stage._forward_hooks


def test_names_are_read_as_people_write_them():
    assert parse_methods("GradCAM++, layercam,layercam") == ("gradcam++", "layercam")
    assert parse_methods(None) == ()


def test_an_unknown_name_is_one_line_with_the_known_ones():
    with pytest.raises(SpaceError, match=r"--methods: must be known, got zzz; known are gradcam, gradcam\+\+, "):
        parse_methods("zzz")
