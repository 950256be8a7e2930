"""Other methods' heatmaps: every name works on every kind of network, and Grad-CAM by another hand is ours."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from gcc_search.errors import SpaceError
from gcc_search.posthoc import METHODS, parse_methods, posthoc_heatmaps
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
    heatmap = posthoc_heatmaps(network_of("convnet_small"), image, [1], method)
    assert heatmap.shape == (1, 64, 64)
    assert heatmap.min() >= 0
    assert heatmap.max() <= 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "efficientnet_b0", "convnext_tiny", "swin_t"])
def test_the_larger_networks_have_their_last_stage_too(image, name):
    assert posthoc_heatmaps(network_of(name), image, [1], "gradcam++").shape == (1, 64, 64)


def test_grad_cam_by_another_hand_is_the_positive_part_of_ours(image):
    network = network_of("convnet_small")
    maps = gradcam(network.features(image), network.head, torch.tensor([2])).detach()
    full = upsample(maps.relu(), 64)[0].numpy()
    # Without the eps of `normalise`: an untrained network's maps are so flat that it takes half a percent.
    ours = (full - full.min()) / (full.max() - full.min())
    # Its resizing is OpenCV's, and it scales before and after.
    np.testing.assert_allclose(posthoc_heatmaps(network, image, [2], "gradcam")[0], ours, atol=2e-3)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "finercam"])
def test_images_together_get_what_pytorch_grad_cam_gives_each_alone(method):
    network, labels = network_of("convnet_small"), [1, 0, 3]
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = posthoc_heatmaps(network, images, labels, method)
    for heatmap, image, label in zip(found, images, labels, strict=True):
        with getattr(pytorch_grad_cam, METHODS[method])(network, target_layers=[network.last_stage]) as alone:
            (expected,) = alone(input_tensor=image[None], targets=[ClassifierOutputTarget(label)])
        np.testing.assert_allclose(heatmap, expected, atol=1e-4)


def test_finer_cam_together_is_each_alone(image):
    network, images = network_of("convnet_small"), torch.cat([image, image.flip(3)])
    together = posthoc_heatmaps(network, images, [1, 2], "finercam")
    alone = [posthoc_heatmaps(network, images[row : row + 1], [row + 1], "finercam")[0] for row in range(2)]
    np.testing.assert_array_equal(together, alone)


def test_a_network_is_left_as_it_was(image):
    network = network_of("convnet_small")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for method in ("scorecam", "ablationcam", "gradcam"):
        posthoc_heatmaps(network, image, [0], method)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not network.last_stage._forward_hooks


def test_names_are_read_as_people_write_them():
    assert parse_methods("GradCAM++, layercam,layercam") == ("gradcam++", "layercam")
    assert parse_methods(None) == ()


def test_an_unknown_name_is_one_line_with_the_known_ones():
    with pytest.raises(SpaceError, match=r"--methods: must be known, got zzz; known are gradcam, gradcam\+\+, "):
        parse_methods("zzz")
