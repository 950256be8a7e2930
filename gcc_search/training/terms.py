"""The losses of one batch: L = L_CE + alpha L_C + beta L_S (equation 4)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.geometry import Transforms, apply_transforms, move_maps
from gcc_search.saliency.losses import consistency_loss, normalise, sparsity_loss, upsample
from gcc_search.saliency.photometry import Photometry
from gcc_search.saliency.raw_losses import explanation_terms, raw_sparsity
from gcc_search.saliency.resampling import Resampling, is_worthwhile, make_resampling
from gcc_search.saliency.shapes import Classes, Images, PerImage, RawMaps
from gcc_search.settings import Explanation
from gcc_search.training.network import Network, full_precision
from gcc_search.training.normalisation import recoloured
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

        # Image by image first: a GPU minds how many operations there are.
        per_image = self.cross_entropy
        if self.consistency is not None:
            per_image = per_image + alpha * self.consistency
        if self.sparsity is not None:
            per_image = per_image + beta * self.sparsity
        return per_image.mean() if of is None else per_image.sum() / of

    def parts(self, alpha: float | Tensor, beta: float | Tensor, *, of: float | None = None) -> tuple[Tensor, Tensor]:
        """Means over the batch of L_CE, and of alpha L_C + beta L_S, of which one at least was computed.

        Args:
            of: as for `total`, which is their sum.
        """
        weighed = [(alpha, self.consistency), (beta, self.sparsity)]
        explanation = torch.stack([weight * term for weight, term in weighed if term is not None]).sum(0)
        if of is None:
            return self.cross_entropy.mean(), explanation.mean()
        return self.cross_entropy.sum() / of, explanation.sum() / of


def precision(device: torch.device) -> torch.autocast:
    """bfloat16 autocast on CUDA, nothing on the CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def shown_dtype(device: torch.device) -> torch.dtype:
    """Of images that a network sees under `precision`, which would round them to it."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


@contextlib.contextmanager
def casts_kept(device: torch.device) -> Iterator[None]:
    """Weights that `precision` casts within are cast once, not by each pass; they must not change. Casts nothing."""
    # What was cast is dropped where the outermost context ends.
    with precision(device), torch.autocast(device.type, enabled=False):
        yield


def loss_terms(
    network: Network,
    x: Images,
    labels: Classes,
    transforms: Transforms,
    explanation: Explanation,
    matrices: Resampling | None = None,
    photometry: Photometry | None = None,
) -> LossTerms:
    """Forward pass and losses of one batch. Both views go through the network together: batch statistics are shared.

    A second view that is detached is a target and goes through it by itself (see `view_features`), unless cross-entropy
    is taken on it as well. The second view is left out where nothing asks for it (see `has_second_view`).

    Args:
        matrices: those of `matrices_for`, where they are there already.
        photometry: the second view's new colours and blur, on top of its transform; its map stays where it is.
    """
    count = len(x)
    features = _features(network, x, transforms, explanation, photometry)
    logits = network.logits(features)
    cross_entropy = functional.cross_entropy(logits[:count], labels, reduction="none")
    if explanation.ce_on_views == "both":
        second = functional.cross_entropy(logits[count:], labels, reduction="none")
        cross_entropy = (cross_entropy + second) / 2
    if explanation.alpha == 0 and explanation.beta == 0:
        return LossTerms(cross_entropy=cross_entropy, consistency=None, sparsity=None)

    classes = _explained_classes(logits, count, explanation)
    maps = network.maps(features, classes, detach_head=explanation.detach == "head")
    consistency, sparsity = terms_of_maps(maps, transforms, x.shape[-1], explanation, matrices)
    return LossTerms(cross_entropy=cross_entropy, consistency=consistency, sparsity=sparsity)


def matrices_for(
    explanation: Explanation, transforms: Transforms, cells: int, size: int, dtype: torch.dtype = torch.float32
) -> Resampling | None:
    """By which raw maps of `cells` on a side are compared; None where none are, or only by their heatmaps' pixels.

    They depend on nothing that is learned, and can be made before the step that they are for.
    """
    side, in_windows = _compared_side(explanation, size), explanation.distance == "ssim"
    if explanation.alpha == 0 or not is_worthwhile(cells, side, transforms.boxes.device, in_windows=in_windows):
        return None
    return make_resampling(transforms, cells, side, dtype, in_windows=in_windows)


def has_second_view(explanation: Explanation) -> bool:
    """Whether anything asks for the second view: the comparison of maps, or cross-entropy on both."""
    return explanation.alpha > 0 or explanation.ce_on_views == "both"


def _features(
    network: Network, x: Images, transforms: Transforms, explanation: Explanation, photometry: Photometry | None
) -> Tensor:
    """Features of the first view, then of the second one where anything asks for it, of B or 2B images."""
    if not has_second_view(explanation):
        with precision(x.device):
            return full_precision(network.features(x))
    moved = apply_transforms(transforms, x, x.shape[-1])
    if photometry is not None:
        moved = recoloured(moved, photometry)
    is_target = explanation.detach == "second-view" and explanation.ce_on_views != "both"
    with precision(x.device):
        return full_precision(view_features(network, x, moved, second_is_target=is_target))


def terms_of_maps(
    maps: Tensor, transforms: Transforms, size: int, explanation: Explanation, matrices: Resampling | None = None
) -> tuple[PerImage | None, PerImage | None]:
    """Consistency and sparsity of the raw maps of both views, or of the first alone; None where its weight is 0.

    Args:
        maps: signed, of the images and then of these images transformed, (2B, h, w).
        size: side of the images, pixels.
        matrices: as for `loss_terms`.
    """
    count = len(transforms)
    first, second = maps[:count], maps[count:]
    is_searched = explanation.sparsity == "searched"
    consistency = sparsity = None
    if explanation.alpha > 0:
        if explanation.detach == "second-view":
            second = second.detach()
            maps = torch.cat([first, second])
        matrices = matrices or matrices_for(explanation, transforms, maps.shape[1], size, maps.dtype)
        if matrices is None:
            consistency = _consistency_of_pixels(first, second, transforms, size, explanation)
        else:
            assert matrices.cells == maps.shape[1], "made for maps of this network's `map_side`"
            # One kind of pixel for both terms: each map comes to it once.
            is_together = explanation.beta > 0 and is_searched and explanation.compared_at == "full"
            p = explanation.p if is_together else None
            consistency, sparsity = explanation_terms(maps, matrices, p=p, size=size)
    if explanation.beta > 0 and sparsity is None:
        if is_searched:
            sparsity = raw_sparsity(first, size, p=explanation.p)
        else:
            sparsity = sparsity_loss(normalise(upsample(first, size)), p=explanation.p, form="paper")
    return consistency, sparsity


def _consistency_of_pixels(
    first: RawMaps, second: RawMaps, transforms: Transforms, size: int, explanation: Explanation
) -> PerImage:
    side = _compared_side(explanation, size)
    # In one batch: a GPU minds how many operations there are, not how large these are.
    heatmaps = normalise(torch.cat([move_maps(transforms, first, side), upsample(second, side)]))
    return consistency_loss(*heatmaps.chunk(2), distance=explanation.distance)


def _compared_side(explanation: Explanation, size: int) -> int:
    return size if explanation.compared_at == "full" else size // 2


def _explained_classes(logits: Tensor, count: int, explanation: Explanation) -> Classes:
    predicted = logits.detach().argmax(1)
    if explanation.cam_class == "own" or len(predicted) == count:
        return predicted
    return predicted[:count].repeat(2)
