"""Vision transformers against torchvision's own: logits, maps by two other hands, gradients of a loss on maps."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from gcc_search.errors import WeightsError
from gcc_search.posthoc import METHODS, posthoc_heatmaps
from gcc_search.saliency.geometry import draw_transforms
from gcc_search.saliency.losses import upsample
from gcc_search.settings import Explanation
from gcc_search.training.networks import build_network, restore_network
from gcc_search.training.passes import Passes
from gcc_search.training.terms import loss_terms
from gcc_search.training.vit import VisionTransformerClassifier

CLASSES = torch.tensor([3, 7])
PATCH = 8


def make_theirs(image_size: int = 32) -> VisionTransformer:
    """Three blocks with weights that are not at rest; float64, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VisionTransformer(
            image_size=image_size,
            patch_size=PATCH,
            num_layers=3,
            num_heads=3,
            hidden_dim=24,
            mlp_dim=40,
            num_classes=10,
        )
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def theirs():
    return make_theirs()


@pytest.fixture
def network(theirs):
    return VisionTransformerClassifier(theirs).eval()


@pytest.fixture
def images(generator):
    return torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)


def as_maps(tokens):
    return tokens[:, 1:].mT.unflatten(2, (4, 4))


def their_maps(theirs, images, *, keep_graph=False):
    """By a hook and the score's backward pass through torchvision's own last block."""
    kept = []
    handle = theirs.encoder.layers[-1].ln_1.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with sdpa_kernel(SDPBackend.MATH):
        scores = theirs(images).gather(1, CLASSES[:, None]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(scores, kept[0], create_graph=keep_graph)
    return (as_maps(gradient).mean((2, 3), keepdim=True) * as_maps(kept[0])).sum(1)


def test_logits_are_those_of_torchvisions_own_forward(network, theirs, images):
    assert_close(network(images), theirs(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [24, 48, 56])
def test_images_of_another_size_see_embeddings_as_torchvision_makes_them(network, theirs, size, generator):
    images = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    other = make_theirs(size)
    other.load_state_dict(interpolate_embeddings(size, PATCH, theirs.state_dict()))
    assert_close(network(images), other(images), rtol=0, atol=1e-12)


def test_map_is_pytorch_grad_cams_before_its_relu(network, theirs, images):
    layer, targets = theirs.encoder.layers[-1].ln_1, [ClassifierOutputTarget(int(c)) for c in CLASSES]
    with GradCAM(theirs, [layer], reshape_transform=as_maps) as cam:
        cam(images, targets)
        activations, gradients = (
            kept[0].numpy() for kept in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)
        )
        expected = cam.get_cam_image(images, layer, targets, activations, gradients)
    assert (expected < 0).any()
    assert_close(network.maps(network.features(images), CLASSES), torch.from_numpy(expected), rtol=0, atol=1e-14)


def test_map_is_captums_of_the_patches(network, images):
    expected = LayerGradCam(network, network.last_stage).attribute(images, CLASSES, relu_attributions=False)
    assert_close(network.maps(network.features(images), CLASSES), expected[:, 0], rtol=0, atol=1e-14)


def test_gradients_of_a_maps_loss_are_those_through_torchvisions_whole_network(network, theirs, images):
    copied = copy.deepcopy(theirs)
    network.maps(network.features(images), CLASSES).square().sum().backward()
    their_maps(copied, images, keep_graph=True).square().sum().backward()
    for (name, ours), expected in zip(theirs.named_parameters(), copied.parameters(), strict=True):
        # No logit's gradient depends on the logits' own bias.
        assert (ours.grad is None) == (expected.grad is None), name
        if ours.grad is not None:
            assert_close(ours.grad, expected.grad, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_map_is_the_same_without_grad(network, images, mode):
    expected = network.maps(network.features(images), CLASSES).detach()
    with mode():
        maps = network.maps(network.features(images), CLASSES)
    assert not maps.requires_grad
    assert_close(maps.clone(), expected, rtol=0, atol=1e-14)


def test_detached_head_leaves_the_map_and_takes_no_gradient(network, images):
    features = network.features(images).detach().requires_grad_()
    maps = network.maps(features, CLASSES, detach_head=True)
    assert_close(maps, network.maps(features, CLASSES))
    maps.square().sum().backward()
    last = network.model.encoder.layers[-1]
    learned = [*last.self_attention.parameters(), *last.mlp.parameters(), *network.model.heads.parameters()]
    assert all(parameter.grad is None for parameter in learned)
    assert last.ln_1.weight.grad is not None
    assert features.grad[:, 1:].abs().sum() > 0


def test_map_of_one_image_ignores_the_rest_of_the_batch(network, images):
    together = network.maps(network.features(images), CLASSES)
    assert_close(together[:1], network.maps(network.features(images[:1]), CLASSES[:1]), rtol=0, atol=1e-14)


def test_patches_lie_in_the_map_as_in_the_image(network, images):
    """What is read of a patch depends on all of them; what is read before the first block, on that one alone."""
    moved = images.clone()
    moved[:, :, PATCH : 2 * PATCH, 3 * PATCH :] += 1
    embedded = [as_maps(network.blocks[0](shown)) for shown in (images, moved)]
    changed = (embedded[0] != embedded[1]).any(1)
    assert changed[:, 1, 3].all()
    assert changed.sum() == 2


@pytest.mark.parametrize("size", [32, 40])
def test_a_maps_side_is_known_before_there_is_one(network, size):
    maps = network.maps(network.features(torch.zeros(2, 3, size, size, dtype=torch.float64)), CLASSES)
    assert maps.shape[1:] == (network.map_side(size),) * 2


def test_the_blocks_one_after_the_other_are_the_features(network, images):
    expected = network.features(images)
    for block in network.blocks:
        images = block(images)
    assert_close(images, expected, rtol=0, atol=0)


@pytest.mark.parametrize("detach", ["none", "head", "second-view"])
def test_a_step_with_blocks_computed_again_is_the_same_to_the_bit(theirs, images, detach, generator):
    frame = torch.full((2,), 32)
    moved = draw_transforms(frame, frame, scale=(0.5, 1.0), generator=generator)
    explanation = Explanation(alpha=1.0, beta=0.1, detach=detach)
    steps = []
    for is_recomputed in (False, True):
        network = VisionTransformerClassifier(copy.deepcopy(theirs)).train()
        network.is_recomputed = is_recomputed
        loss = loss_terms(network, images, CLASSES, moved, explanation).total(1.0, 0.1)
        loss.backward()
        steps.append([loss.detach(), *(parameter.grad for parameter in network.parameters())])
    assert all(gradient is not None for gradient in steps[0])
    assert_close(steps[0], steps[1], rtol=0, atol=0)


def test_an_evaluations_pass_gives_prediction_and_maps_of_both_views(network, images):
    single = network.float()
    still = torch.linspace(-31 / 32, 31 / 32, 32).expand(2, 2, -1)
    with torch.no_grad():
        predicted, confidence, maps, _, moved_maps, _ = Passes(single).explain(images.float(), still)
    logits = single(images.float()).detach()
    assert_close(predicted, logits.argmax(1))
    assert_close(confidence, logits.softmax(1).amax(1))
    assert_close(maps, single.maps(single.features(images.float()), predicted).detach())
    assert_close(moved_maps, maps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_take_the_patches_for_feature_maps(network, images, method):
    heatmaps = posthoc_heatmaps(network.float(), images[:1].float(), [1], method)
    assert heatmaps.shape == (1, 32, 32)
    assert 0 <= heatmaps.min() <= heatmaps.max() <= 1


def test_grad_cam_by_another_hand_is_the_positive_part_of_ours(network, images):
    single = network.float()
    maps = single.maps(single.features(images.float()), CLASSES).detach()
    full = upsample(maps.relu(), 32).numpy()
    assert full.any()
    ours = (full - full.min((1, 2), keepdims=True)) / np.ptp(full, axis=(1, 2), keepdims=True).clip(1e-12)
    np.testing.assert_allclose(posthoc_heatmaps(single, images.float(), [3, 7], "gradcam"), ours, atol=2e-3)


def test_vit_b_16_is_torchvisions_and_is_read_again():
    network = build_network("vit_b_16", num_classes=5, weights="none", seed=0)
    tensors = network.model.state_dict()
    assert tensors.keys() == VisionTransformer(224, 16, 12, 12, 768, 3072).state_dict().keys()
    restored = restore_network("vit_b_16", tensors, where="here")
    assert all(torch.equal(value, tensors[name]) for name, value in restored.model.state_dict().items())
    assert restored.map_side(224) == 14
    assert restored(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_weights_of_another_grid_are_one_line(tmp_path):
    path = tmp_path / "larger.pth"
    torch.save({"encoder.pos_embedding": torch.zeros(1, 577, 768)}, path)
    with pytest.raises(WeightsError, match=r"larger\.pth: must be of this network, got no class_token of its shape"):
        build_network("vit_b_16", num_classes=5, weights=str(path), seed=0)
