"""The same losses as others would get their maps: each a loss to be differentiated, for `step.py` to measure.

What differs is how the maps come about, and from how many views; the losses on them are ours, from the same matrices.
CGC has a loss of its own on heatmaps' pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerGradCam
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from gcc_search.saliency.geometry import Transforms, apply_transforms, move_heatmaps
from gcc_search.saliency.losses import normalise, upsample
from gcc_search.saliency.resampling import Resampling
from gcc_search.settings import Explanation
from gcc_search.training.network import Network, full_precision
from gcc_search.training.terms import precision, terms_of_maps

EXPLANATION = Explanation(alpha=1.0, beta=0.1, p=1.0)
# Of CGC's loss, which tells a map from those of the other images of the batch.
_TEMPERATURE = 0.5


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images as the network sees them, their labels, and the transforms of their second and third views.

    `matrices` are those of the second views, where they are made before the step.
    """

    images: Tensor
    labels: Tensor
    second: Transforms
    third: Transforms
    matrices: Resampling | None


def hooked(network: Network, batch: Batch) -> Tensor:
    """pytorch-grad-cam's way, kept differentiable: a hook, and the score's backward pass through the whole network."""
    kept: list[Tensor] = []
    handle = network.last_stage.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with _differentiable_twice():
        logits = _logits(network, _views(batch))
    handle.remove()
    wanted = [kept[0], *network.parameters()]
    gradient = torch.autograd.grad(_scores(logits, batch), wanted, create_graph=True)[0]
    return _loss(logits, _weighted(gradient, kept[0]), batch)


def with_captum(network: Network, batch: Batch) -> Tensor:
    """Captum's LayerGradCam with create_graph: its forward pass beside the one that cross-entropy needs."""
    views = _views(batch)
    logits = _logits(network, views)
    classes = logits[: len(batch.labels)].detach().argmax(1).repeat(2)
    # Its hook clones nothing: an in-place activation after the layer would spoil the map, and there is none.
    method = LayerGradCam(lambda images: _logits(network, images), network.last_stage)
    with _differentiable_twice():
        maps: Any = method.attribute(views, classes, grad_kwargs={"create_graph": True})
    return _loss(logits, maps[:, 0].float(), batch)


def with_three_views(network: Network, batch: Batch) -> Tensor:
    """CGC's (Pillai et al., 2022): a view for cross-entropy, and two whose maps are told from other images'."""
    size = batch.images.shape[-1]
    two = [apply_transforms(transforms, batch.images, size) for transforms in (batch.second, batch.third)]
    features, logits = _features_and_logits(network, torch.cat([batch.images, *two]))
    count = len(batch.labels)
    classes = logits[:count].detach().argmax(1).repeat(3)
    maps = normalise(upsample(network.maps(features, classes), size))
    of_image, of_second, of_third = maps.split(count)  # type: ignore[no-untyped-call]
    moved = move_heatmaps(batch.second, of_image, size)
    queries, keys = (functional.normalize(item.flatten(1), dim=1) for item in (torch.cat([moved, of_third]), of_second))
    contrast = functional.cross_entropy(
        queries[:count] @ keys.T / _TEMPERATURE, torch.arange(count, device=keys.device)
    )
    return functional.cross_entropy(logits[:count], batch.labels) + EXPLANATION.alpha * contrast


# Like ours, of the same maps, and so the same number.
WITH_OUR_LOSSES: dict[str, Callable[[Network, Batch], Tensor]] = {
    "hooks, the score through the whole network": hooked,
    "Captum's LayerGradCam, create_graph": with_captum,
}
RIVALS = WITH_OUR_LOSSES | {"three views (CGC)": with_three_views}


def _differentiable_twice() -> contextlib.AbstractContextManager[None]:
    """Attention by operations that have a second derivative, which its fused kernels have not."""
    return sdpa_kernel(SDPBackend.MATH)


def _views(batch: Batch) -> Tensor:
    return torch.cat([batch.images, apply_transforms(batch.second, batch.images, batch.images.shape[-1])])


def _features_and_logits(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    with precision(images.device):
        features = network.features(images)
    features = full_precision(features)
    return features, network.logits(features)


def _logits(network: Network, images: Tensor) -> Tensor:
    return _features_and_logits(network, images)[1]


def _scores(logits: Tensor, batch: Batch) -> Tensor:
    classes = logits[: len(batch.labels)].detach().argmax(1).repeat(2)
    return logits.gather(1, classes[:, None]).sum()


def _weighted(gradient: Tensor, features: Tensor) -> Tensor:
    return (gradient.float().mean((2, 3), keepdim=True) * features.float()).sum(1)


def _loss(logits: Tensor, maps: Tensor, batch: Batch) -> Tensor:
    count, size = len(batch.labels), batch.images.shape[-1]
    consistency, sparsity = terms_of_maps(maps, batch.second, size, EXPLANATION, batch.matrices)
    assert consistency is not None, "alpha is above 0"
    assert sparsity is not None, "so is beta"
    explanation = EXPLANATION.alpha * consistency.mean() + EXPLANATION.beta * sparsity.mean()
    return functional.cross_entropy(logits[:count], batch.labels) + explanation
