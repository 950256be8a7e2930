"""VGG and DenseNet against torchvision's own: logits, maps by two other hands, gradients of a loss on maps."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.testing import assert_close
from torchvision.models.vgg import make_layers

from gcc_search.saliency.geometry import draw_transforms
from gcc_search.settings import Explanation
from gcc_search.training.pooled import DenseNetClassifier
from gcc_search.training.terms import loss_terms
from gcc_search.training.vgg import VGGClassifier, _averaging

CLASSES = torch.tensor([3, 7])
SIZE = 64


def make_vgg() -> VGGClassifier:
    """Two poolings less and fewer channels than torchvision's, with weights that are not at rest."""
    layers = make_layers([8, 8, "M", 16, "M", 24, "M"], batch_norm=True)
    model = torchvision.models.VGG(layers, init_weights=False)
    parts = [nn.Linear(24 * 49, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 20), nn.ReLU(True), nn.Dropout()]
    model.classifier = nn.Sequential(*parts, nn.Linear(20, 10))
    return VGGClassifier(model)


def make_densenet() -> DenseNetClassifier:
    model = torchvision.models.DenseNet(4, (2, 2, 2, 2), 8, num_classes=10)
    # Of features that are nowhere negative, weights of both signs alone give a map of both.
    nn.init.normal_(model.classifier.weight)
    return DenseNetClassifier(model)


@pytest.fixture(params=[make_vgg, make_densenet])
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return request.param().double().eval()


@pytest.fixture
def vgg():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_vgg().double().eval()


def images_of(size: int, count: int = 2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# At 56 pixels VGG's features are 7 x 7, as its classifier reads them.
@pytest.mark.parametrize("size", [56, 64, 100, 32])
def test_logits_are_those_of_torchvisions_own_forward(network, size):
    images = images_of(size)
    assert_close(network(images), network.model(images), rtol=0, atol=1e-12)


def test_map_is_captums(network):
    images = images_of(SIZE)
    expected = LayerGradCam(network, network.last_stage).attribute(images, CLASSES, relu_attributions=False)
    assert_close(network.maps(network.features(images), CLASSES), expected[:, 0], rtol=1e-10, atol=1e-14)


def test_map_is_pytorch_grad_cams_before_its_relu(network):
    images, targets = images_of(SIZE), [ClassifierOutputTarget(int(c)) for c in CLASSES]
    with GradCAM(network, [network.last_stage]) as cam:
        cam(images, targets)
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        expected = cam.get_cam_image(images, network.last_stage, targets, activations, gradients)
    assert (expected < 0).any()
    assert_close(network.maps(network.features(images), CLASSES), torch.from_numpy(expected), rtol=1e-10, atol=1e-14)


def test_gradients_of_a_loss_on_maps_are_those_through_the_whole_network(network):
    images = images_of(SIZE)
    kept = []
    handle = network.last_stage.register_forward_hook(lambda module, inputs, output: kept.append(output))
    scores = network(images).gather(1, CLASSES[:, None]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(scores, kept[0], create_graph=True)
    theirs = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)
    parameters = list(network.parameters())
    expected = torch.autograd.grad(theirs.square().sum(), parameters, materialize_grads=True)
    ours = network.maps(network.features(images), CLASSES).square().sum()
    found = torch.autograd.grad(ours, parameters, materialize_grads=True)
    for mine, other in zip(found, expected, strict=True):
        assert_close(mine, other, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_map_is_the_same_without_grad_and_with_a_detached_head(network, mode):
    images = images_of(SIZE)
    expected = network.maps(network.features(images), CLASSES).detach()
    with mode():
        assert_close(network.maps(network.features(images), CLASSES).clone(), expected)
    detached = network.maps(network.features(images), CLASSES, detach_head=True)
    assert_close(detached.detach(), expected)
    detached.sum().backward()
    assert not any(part.grad is not None for part in nn.ModuleList([*network.model.children()][1:]).parameters())


def test_what_was_first_scored_in_inference_mode_can_be_trained(vgg):
    _averaging.cache_clear()
    images = images_of(SIZE)
    with torch.inference_mode():
        vgg(images)
    vgg(images).sum().backward()


def test_maps_of_vgg_have_no_dropout(vgg):
    features = vgg.features(images_of(SIZE))
    expected = vgg.maps(features, CLASSES)
    vgg.train()
    assert_close(vgg.maps(features, CLASSES), expected, rtol=0, atol=0)
    assert not torch.equal(vgg.logits(features), vgg.logits(features))


def test_the_blocks_one_after_the_other_are_the_features(network):
    images = images_of(SIZE)
    expected = network.features(images)
    for block in network.blocks:
        given, before = images, images.clone()
        images = block(given)
        assert_close(given, before, rtol=0, atol=0)
    assert_close(images, expected, rtol=0, atol=0)


@pytest.mark.parametrize("detach", ["none", "second-view", "head"])
def test_a_step_with_both_terms_is_the_same_when_blocks_are_computed_again(network, detach):
    explanation = Explanation(alpha=1.0, beta=0.1, detach=detach)
    frame = torch.full((2,), SIZE)
    moved = draw_transforms(frame, frame, scale=(0.5, 1.0), generator=torch.Generator().manual_seed(1))
    found = []
    for is_recomputed in (False, True):
        trained = copy.deepcopy(network).train()
        trained.is_recomputed = is_recomputed
        with torch.random.fork_rng():
            torch.manual_seed(2)
            terms = loss_terms(trained, images_of(SIZE), torch.tensor([0, 1]), moved, explanation)
            terms.total(1.0, 0.1).backward()
        assert all(bool((term > 0).all()) for term in (terms.consistency, terms.sparsity))
        found.append([parameter.grad for parameter in trained.parameters()])
    assert_close(found[0], found[1], rtol=0, atol=0)
