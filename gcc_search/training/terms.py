"""The losses of one batch: L = L_CE + alpha L_C + beta L_S (equation 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.geometry import Transforms, apply_transforms, move_maps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import consistency_loss, normalise, sparsity_loss, upsample
from gcc_search.saliency.raw_losses import explanation_terms
from gcc_search.saliency.resampling import Resampling, is_worthwhile, resampling
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
    network: Network,
    x: Images,
    labels: Classes,
    transforms: Transforms,
    explanation: Explanation,
    matrices: Resampling | None = None,
) -> LossTerms:
    """Forward pass and losses of one batch. Both views go through the network together: batch statistics are shared.

    A second view that is detached is a target and goes through it by itself (see `view_features`), unless cross-entropy
    is taken on it as well. The second view is left out where nothing asks for it (alpha = 0 and cross-entropy on the
    first view alone).

    Args:
        matrices: those of `matrices_for`, where they are there already.
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
    matrices = matrices or matrices_for(explanation, transforms, maps.shape[1], size, maps.dtype)
    if matrices is not None:
        if explanation.detach == "second-view":
            maps = torch.cat([maps[:count], maps[count:].detach()])
        unlike, lit = explanation_terms(maps, matrices, p=explanation.p if explanation.beta > 0 else None)
        return LossTerms(cross_entropy=cross_entropy, consistency=unlike, sparsity=lit)

    moved_heatmap, of_moved, first = _heatmaps(maps, transforms, size, explanation)
    consistency = sparsity = None
    if moved_heatmap is not None and of_moved is not None:
        consistency = consistency_loss(moved_heatmap, of_moved, distance=explanation.distance)
    if first is not None:
        sparsity = sparsity_loss(first, p=explanation.p, form=explanation.sparsity)
    return LossTerms(cross_entropy=cross_entropy, consistency=consistency, sparsity=sparsity)


def matrices_for(
    explanation: Explanation, transforms: Transforms, cells: int, size: int, dtype: torch.dtype = torch.float32
) -> Resampling | None:
    """By which raw maps of `cells` on a side are compared at once; None where it takes their heatmaps' pixels.

    They depend on nothing that is learned, and can be made before the step that they are for.
    """
    is_usual = explanation.sparsity == "searched" and explanation.compared_at == "full"
    least_scale = explanation.transform_scale_min
    if explanation.alpha == 0 or not is_usual or not is_worthwhile(cells, size, least_scale=least_scale):
        return None
    return resampling(transforms, cells, size, dtype, in_windows=explanation.distance == "ssim")


def _heatmaps(
    maps: Tensor, transforms: Transforms, size: int, explanation: Explanation
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """t(M(x)) and M(t(x)), where they are compared, and M(x), where it is to be sparse, of the raw maps of both views.

    Each (B, side, side), the first two perhaps of another side than the third. Those of one side are normalised in one
    batch: a GPU minds how many operations there are, not how large these are.
    """
    count = len(transforms)
    first, second = maps[:count], maps[count:]
    if explanation.alpha == 0:
        return None, None, normalise(upsample(first, size))
    if explanation.detach == "second-view":
        second = second.detach()
    is_together = explanation.beta > 0 and explanation.compared_at == "full"
    side = size if explanation.compared_at == "full" else size // 2
    whole = upsample(torch.cat([second, first]) if is_together else second, side)
    normalised = normalise(torch.cat([move_maps(transforms, first, side), whole]))
    moved, of_moved, *rest = normalised.split(count)  # type: ignore[no-untyped-call]
    if explanation.beta > 0 and not is_together:
        rest = [normalise(upsample(first, size))]
    return moved, of_moved, rest[0] if rest else None


def _explained_classes(logits: Tensor, count: int, explanation: Explanation) -> Classes:
    predicted = logits.detach().argmax(1)
    if explanation.cam_class == "own" or len(predicted) == count:
        return predicted
    return predicted[:count].repeat(2)
