"""A step's forward pass on a GPU that is only pretended: tensors have a device and no values.

What a CUDA graph cannot hold shows here, without a GPU: a tensor that comes from the CPU, a value that goes back.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models import VisionTransformer

from gcc_search.saliency import geometry, resampling, ssim
from gcc_search.saliency.geometry import Transforms
from gcc_search.saliency.photometry import Photometry
from gcc_search.settings import Explanation
from gcc_search.training import normalisation, showing, vit
from gcc_search.training.networks import build_network
from gcc_search.training.projection import projected
from gcc_search.training.showing import Showing
from gcc_search.training.terms import loss_terms, matrices_for
from gcc_search.training.vit import VisionTransformerClassifier

CUDA = torch.device("cuda", 0)
EXPLANATIONS = {
    "both terms": Explanation(alpha=1.0, beta=0.1),
    "correlation": Explanation(alpha=1.0, beta=0.1, distance="correlation"),
    "second view detached": Explanation(alpha=1.0, beta=0.1, detach="second-view"),
    "head detached": Explanation(alpha=1.0, beta=0.1, detach="head"),
    "half": Explanation(alpha=1.0, beta=0.1, compared_at="half"),
    "paper": Explanation(alpha=1.0, beta=0.1, sparsity="paper", p=2.0),
    "sparsity alone": Explanation(beta=0.1),
    "two views": Explanation(ce_on_views="both"),
    "photometric": Explanation(alpha=1.0, beta=0.1, photometric=0.5),
    "two views, photometric": Explanation(ce_on_views="both", photometric=0.5),
    "cross-entropy": Explanation(),
}


class Crossings(TorchDispatchMode):
    """Notes what has tensors of several devices, numbers aside, and what waits for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device for tensor in tensors if tensor.dim() > 0}) > 1 or "_local_scalar_dense" in str(func):
            self.found.append(str(func))
        return result


def on_cuda(network: nn.Module) -> nn.Module:
    for module in network.modules():
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            moved = torch.empty(value.shape, dtype=value.dtype, device=CUDA)
            if isinstance(value, nn.Parameter):
                module._parameters[name] = nn.Parameter(moved)
            else:
                module._buffers[name] = moved
    return network


@pytest.fixture
def pretended():
    """Constants that are kept for a device are kept for a pretended one, and not for a real one after it."""
    constants = (
        geometry.upsampling_matrix,
        ssim._band,
        resampling._weights,
        resampling._bends,
        resampling._windows_of_whole,
        resampling.stretching_of_whole,
        showing._channel_scales,
        vit._bicubic,
        normalisation._channels,
    )
    network = build_network("convnet_small", num_classes=5, weights="none", seed=0).train()
    with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
        # Autocast tells that there is no GPU.
        warnings.simplefilter("ignore")
        for constant in constants:
            constant.cache_clear()
        yield on_cuda(network)
    for constant in constants:
        constant.cache_clear()


@pytest.mark.parametrize("made_ahead", [True, False])
@pytest.mark.parametrize("explanation", EXPLANATIONS.values(), ids=EXPLANATIONS.keys())
def test_a_step_takes_nothing_from_the_cpu_and_waits_for_no_value(pretended, explanation, made_ahead):
    x, labels = torch.rand(4, 3, 64, 64, device=CUDA), torch.zeros(4, dtype=torch.long, device=CUDA)
    boxes, flips = torch.rand(4, 4, dtype=torch.float64, device=CUDA), torch.zeros(4, dtype=torch.bool, device=CUDA)
    transforms, weights = Transforms(boxes=boxes, flips=flips), torch.rand(2, device=CUDA)
    photometry = Photometry(values=torch.rand(4, 5, device=CUDA)) if explanation.photometric else None

    def step() -> torch.Tensor:
        matrices = matrices_for(explanation, transforms, 8, 64) if made_ahead else None
        return loss_terms(pretended, x, labels, transforms, explanation, matrices, photometry).total(*weights)

    # Constants are sent once.
    step()
    with Crossings() as crossings:
        assert step().device == CUDA
    assert crossings.found == []


def test_a_gradient_is_projected_without_a_value_that_comes_to_the_cpu(pretended):
    """(The passes back are beyond a GPU that is only pretended.)"""
    of_classes, of_maps = ([torch.rand_like(value) for value in pretended.parameters()] for _ in range(2))
    with Crossings() as crossings:
        found = projected(of_classes, of_maps)
    assert {gradient.device for gradient in found} == {CUDA}
    assert crossings.found == []


@pytest.mark.parametrize("explanation", EXPLANATIONS.values(), ids=EXPLANATIONS.keys())
def test_what_a_step_is_shown_is_made_of_what_is_on_the_gpu(pretended, explanation):
    pixels = torch.zeros(4, 3, 80, 80, dtype=torch.uint8, device=CUDA)
    boxes, flips = torch.rand(4, 4, dtype=torch.float64, device=CUDA), torch.zeros(4, dtype=torch.bool, device=CUDA)
    transforms, make = Transforms(boxes=boxes, flips=flips), Showing(explanation=explanation, cells=8, size=64)
    make.tensors(pixels, transforms, transforms)
    with Crossings() as crossings:
        made = make.tensors(pixels, transforms, transforms)
    assert {tensor.device for tensor in made} == {CUDA}
    assert crossings.found == []


def test_a_crossing_would_be_noticed(pretended):
    values = torch.rand(3, device=CUDA)
    with Crossings() as crossings:
        torch.arange(3.0).to(CUDA)
        values[[0, 1]]
    assert len(crossings.found) == 2


@pytest.fixture(scope="module")
def transformer():
    """Drawn where there are values, before a GPU is pretended."""
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16, "num_classes": 5}
    return VisionTransformer(image_size=48, patch_size=8, **sizes)


@pytest.mark.usefixtures("pretended")
def test_a_transformer_sees_other_positions_than_its_own_on_the_device_alone(transformer):
    """Its forward pass alone: its maps need a backward pass, which no pretended GPU can run."""
    network, x = VisionTransformerClassifier(on_cuda(transformer)), torch.rand(4, 3, 64, 64, device=CUDA)
    network(x)
    with Crossings() as crossings:
        assert network(x).device == CUDA
    assert crossings.found == []
