"""Activation checkpointing: less is kept, and nothing else is different."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from gcc_search.saliency.geometry import draw_transforms
from gcc_search.settings import Explanation
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.terms import loss_terms

NAMES = (
    "convnet_small",
    "resnet18",
    "resnet50",
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v3_large",
    "convnext_tiny",
    "swin_t",
)
BOTH_TERMS = Explanation(alpha=1.0, beta=0.1)


@functools.cache
def built(name: str) -> Network:
    return build_network(name, num_classes=5, weights="none", seed=0)


def network_of(name: str, *, is_recomputed: bool) -> Network:
    network = copy.deepcopy(built(name)).train()
    network.is_recomputed = is_recomputed
    return network


def step(network: Network, explanation: Explanation) -> dict[str, list[Tensor]]:
    """Loss, gradients and state of a step, and what is drawn after it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 64, 64, generator=generator)
    frame = torch.full((2,), 64)
    moved = draw_transforms(frame, frame, scale=(0.5, 1.0), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        loss = loss_terms(network, x, torch.tensor([0, 1]), moved, explanation).total(1.0, 0.1)
        after_forward = torch.rand(1)
        loss.backward()
        after_backward = torch.rand(1)
    return {
        "loss": [loss.detach()],
        "gradients": [parameter.grad for parameter in network.parameters() if parameter.grad is not None],
        "state": list(network.state_dict().values()),
        "draws": [after_forward, after_backward],
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_blocks_one_after_the_other_are_the_features(name):
    network, images = network_of(name, is_recomputed=False).eval(), torch.randn(1, 3, 64, 64)
    expected = network.features(images)
    for block in network.blocks:
        given, before = images, images.clone()
        images = block(given)
        assert_close(given, before, rtol=0, atol=0)
    assert_close(images, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("detach", ["none", "second-view"])
def test_a_step_is_the_same_to_the_bit(name, detach):
    explanation = BOTH_TERMS.model_copy(update={"detach": detach})
    kept, recomputed = (step(network_of(name, is_recomputed=choice), explanation) for choice in (False, True))
    assert_close(recomputed, kept, rtol=0, atol=0)


class Passes(TorchDispatchMode):
    """Counts convolutions forwards."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def test_blocks_are_computed_twice_and_their_inputs_alone_are_kept():
    network = network_of("resnet18", is_recomputed=True)
    images = torch.randn(2, 3, 64, 64)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        features = network.features(images)
    # torch 2.11 keeps an empty tensor beside each.
    inputs = [tensor for tensor in kept if tensor.numel()]
    assert len(inputs) == len(network.blocks) == 9
    assert inputs[0] is images
    with Passes() as passes:
        features.sum().backward()
    assert passes.count == 20


def test_without_gradients_nothing_is_computed_twice():
    network = network_of("convnet_small", is_recomputed=True)
    with torch.no_grad(), Passes() as passes:
        network.features(torch.randn(2, 3, 64, 64))
    assert passes.count == 4


def test_an_error_in_the_second_pass_leaves_statistics_in_their_place(monkeypatch):
    network = network_of("convnet_small", is_recomputed=True)
    before = dict(network.named_buffers())
    features = network.features(torch.randn(2, 3, 64, 64))

    def fail(images: Tensor) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(network.model.stages[1][2], "forward", fail)
    with pytest.raises(MemoryError):
        features.sum().backward()
    assert all(buffer is before[name] for name, buffer in network.named_buffers())
