"""The losses of one batch: L = L_CE + alpha L_C + beta L_S (equation 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.geometry import Transforms, apply_transforms, move_maps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import consistency_loss, normalise, sparsity_loss, upsample
from gcc_search.saliency.shapes import Classes, Images, PerImage
from gcc_search.settings import Explanation
from gcc_search.training.networks import Network, full_precision
from gcc_search.training.views import view_features


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The terms of equation 4, one number per image; a term that was not computed is None."""

    cross_entropy: PerImage
    consistency: PerImage | None
    sparsity: PerImage | None

    def total(self, alpha: float | Tensor, beta: float | Tensor, *, of: float | None = None) -> Tensor:
        """Mean over the batch of L_CE + alpha L_C + beta L_S.

        Args:
            of: what the sum is divided by, where that is not the number of images here.
        """

        def mean(term: PerImage) -> Tensor:
            return term.mean() if of is None else term.sum() / of

        loss = mean(self.cross_entropy)
        if self.consistency is not None:
            loss = loss + alpha * mean(self.consistency)
        if self.sparsity is not None:
            loss = loss + beta * mean(self.sparsity)
        return loss


def precision(device: torch.device) -> torch.autocast:
    """bfloat16 autocast on CUDA, nothing on the CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def loss_terms(
    network: Network, x: Images, labels: Classes, transforms: Transforms, explanation: Explanation
) -> LossTerms:
    """Forward pass and losses of one batch. Both views go through the network together: batch statistics are shared.

    A second view that is detached is a target and goes through it by itself (see `view_features`), unless cross-entropy
    is taken on it as well. The second view is left out where nothing asks for it (alpha = 0 and cross-entropy on the
    first view alone).
    """
    count, size = len(x), x.shape[-1]
    two_views = explanation.alpha > 0 or explanation.ce_on_views == "both"
    second_is_target = explanation.detach == "second-view" and explanation.ce_on_views != "both"
    with precision(x.device):
        if two_views:
            moved = apply_transforms(transforms, x, size)
            features = view_features(network, x, moved, second_is_target=second_is_target)
        else:
            features = network.features(x)
    features = full_precision(features)
    logits = network.head(features.mean((2, 3)))
    cross_entropy = functional.cross_entropy(logits[:count], labels, reduction="none")
    if explanation.ce_on_views == "both":
        second = functional.cross_entropy(logits[count:], labels, reduction="none")
        cross_entropy = (cross_entropy + second) / 2
    if explanation.alpha == 0 and explanation.beta == 0:
        return LossTerms(cross_entropy=cross_entropy, consistency=None, sparsity=None)

    classes = _explained_classes(logits, count, explanation)
    maps = gradcam(features, network.head, classes, detach_head=explanation.detach == "head")
    first, second_maps = maps[:count], maps[count:]
    lit = [first] if explanation.beta > 0 else []
    if explanation.alpha == 0:
        heatmap = normalise(upsample(first, size))
        sparsity = sparsity_loss(heatmap, p=explanation.p, form=explanation.sparsity)
        return LossTerms(cross_entropy=cross_entropy, consistency=None, sparsity=sparsity)
    if explanation.detach == "second-view":
        second_maps = second_maps.detach()
    # All in one batch: a GPU minds how many operations there are, not how large these are.
    whole = upsample(torch.cat([second_maps, *lit]), size)
    moved, of_moved, *of_first = normalise(torch.cat([move_maps(transforms, first, size), whole])).split(count)  # type: ignore[no-untyped-call]
    return LossTerms(
        cross_entropy=cross_entropy,
        consistency=consistency_loss(moved, of_moved, distance=explanation.distance),
        sparsity=sparsity_loss(of_first[0], p=explanation.p, form=explanation.sparsity) if of_first else None,
    )


def _explained_classes(logits: Tensor, count: int, explanation: Explanation) -> Classes:
    predicted = logits.detach().argmax(1)
    if explanation.cam_class == "own" or len(predicted) == count:
        return predicted
    return predicted[:count].repeat(2)
