"""From map to heatmap, and the two terms that equation 4 adds to cross-entropy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gcc_search.saliency.geometry import upsampling_matrix
from gcc_search.saliency.products import between
from gcc_search.saliency.shapes import Claims, Heatmaps, PerImage, RawMaps, SizedHeatmaps
from gcc_search.saliency.ssim import pearson_correlation, structural_similarity

SPARSITY_TAU = 0.1
"""Heatmap value that counts half in the trainable stand-in for p = 0."""
_SPARSITY_EPS = 1e-6
"""Added to a pixel's square: what is 0 has a gradient, and every p > 0 a value."""
_SIMILARITIES = {"ssim": structural_similarity, "correlation": pearson_correlation}


def upsample(maps: RawMaps, size: int) -> SizedHeatmaps:
    """Maps at `size` x `size`, bilinear, align_corners False.

    Where there is something to be learned by products of matrices: see `geometry.move_maps`.
    """
    if maps.requires_grad:
        rows, columns = (upsampling_matrix(cells, size, maps.device).to(maps.dtype) for cells in maps.shape[1:])
        return between(rows, maps, columns)
    return functional.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def normalise(maps: Heatmaps) -> Heatmaps:
    """N(m) = (m - min) / (max - min + eps) of each map, in [0, 1); a constant map becomes exactly 0, without gradient.

    eps = 1e-3 std + 1e-6, a constant to the gradient. pytorch-grad-cam's fixed 1e-7 gives slopes of 1e6 on a nearly
    flat map.
    """
    heatmaps: Heatmaps = _Normalised.apply(maps)
    return heatmaps


class _Normalised(torch.autograd.Function):
    """Its gradient from the heatmap alone, which SSIM keeps as well."""

    @staticmethod
    def forward(context: Any, maps: Tensor) -> Tensor:
        heatmaps, per_unit = _normalised(maps)
        context.save_for_backward(heatmaps, per_unit)
        return heatmaps

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _normalised_gradient(gradient, *context.saved_tensors)


def _normalised(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Heatmaps, and what a unit of each map is worth in them."""
    low, _, per_unit = range_of(maps)
    return (maps - low) * per_unit, per_unit


def range_of(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least and greatest value of each map (..., h, w), and what a unit of it is worth in N(m): 0 where it is constant.

    Each (..., 1, 1).
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    # By as few operations as there can be: on a GPU each costs more than what it computes.
    spread = high - low
    per_unit = torch.add(spread, _deviation(maps, low, high), alpha=1e-3).add_(1e-6).reciprocal_()
    return low, high, per_unit.masked_fill_(spread <= _rounding(low, high), 0)


def _deviation(maps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Standard deviation of each map (..., h, w), (..., 1, 1)."""
    if maps.is_cuda:
        return maps.std((-2, -1), correction=0, keepdim=True)
    # On a CPU torch's own goes from one value to the next, and takes ten times as long.
    spread = (high - low).clamp(min=torch.finfo(maps.dtype).tiny)
    within = (maps - low) / spread
    mean_square = torch.linalg.vector_norm(within, dim=(-2, -1), keepdim=True).square() / maps.shape[-2:].numel()
    variance: Tensor = mean_square - within.mean((-2, -1), keepdim=True).square()
    return variance.clamp(min=0).sqrt() * spread


def _normalised_gradient(gradient: Tensor, heatmaps: Tensor, per_unit: Tensor) -> Tensor:
    low, high = (_shares(heatmaps, extreme((1, 2), keepdim=True)) for extreme in (heatmaps.amin, heatmaps.amax))
    return unstretched_gradient(gradient, heatmaps, per_unit, low, high)


def unstretched_gradient(
    gradient: Tensor, heatmaps: Tensor, per_unit: Tensor, at_low: Tensor, at_high: Tensor
) -> Tensor:
    """By maps (..., h, w), of what has this gradient by N(m); of the heatmaps' pixels, or of cells that stand for them.

    Args:
        per_unit: as `range_of` has it.
        at_low, at_high: each place's share in the extreme that its map was stretched by.
    """
    along = (gradient * heatmaps).sum((-2, -1), keepdim=True)
    of_low = along - gradient.sum((-2, -1), keepdim=True)
    return torch.addcmul(gradient, of_low, at_low).addcmul_(along, at_high, value=-1).mul_(per_unit)


def _shares(heatmaps: Tensor, extremes: Tensor) -> Tensor:
    """What each pixel has of the gradient of its map's extreme: equal shares for all that reach it."""
    at = (heatmaps == extremes).to(heatmaps.dtype)
    return at / at.sum((1, 2), keepdim=True)


def is_degenerate(maps: Heatmaps) -> Claims:
    """Whether each map is constant, up to the rounding that upsampling leaves on a constant. False for NaN."""
    low, high = maps.detach().amin((1, 2)), maps.detach().amax((1, 2))
    return high - low <= _rounding(low, high)


def _rounding(low: Tensor, high: Tensor) -> Tensor:
    """How far two equal values may be from each other; `high` is not below `low`."""
    # So the greater of their sizes is one of these.
    return torch.maximum(-low, high) * (16 * torch.finfo(low.dtype).eps)


def consistency_loss(moved_map: Heatmaps, map_of_moved: Heatmaps, *, distance: str = "ssim") -> PerImage:
    """Distance between t(M(x)) and M(t(x)), both normalised, in [0, 2]; 0 means equivariant.

    Equation 2 of the paper with d = 1 - SSIM; kornia's `ssim_loss` is half of this. Gradients flow into both maps.

    Args:
        distance: "ssim" (the paper's) or "correlation", 1 - Pearson.

    Raises:
        ValueError: a map is smaller than the SSIM window; a raw 7 x 7 map is.
    """
    return 1 - _SIMILARITIES[distance](moved_map, map_of_moved)


def sparsity_loss(heatmap: Heatmaps, *, p: float, form: str = "searched") -> PerImage:
    """How much of each heatmap is lit; 0 for an empty one.

    "searched": S_p = (mean (m^2 + 1e-6)^(p/2))^(1/p), in [0.001, 1] for every p > 0, so that beta means the same
    whatever p is; at p = 0 its trainable stand-in, mean m^2 / (m^2 + tau^2).
    "paper": the p-norm of the heatmap as one vector; for p = 0 the number of pixels that are not 0, which has no
    gradient. It grows like (pixels)^(1/p) and leaves float32 below p = 0.13 at 224 x 224.

    Args:
        heatmap: normalised, in [0, 1].
        p: at least 0.
    """
    if form == "paper":
        norm: PerImage = torch.linalg.vector_norm(heatmap if p > 0 else heatmap.detach(), ord=p, dim=(1, 2))
        return norm
    assert form == "searched", form
    searched: PerImage = KnownGradient.apply(heatmap, functools.partial(sparsity_with_gradient, p=p))
    return searched


class KnownGradient(torch.autograd.Function):
    """A value of each map, of which `with_gradient` tells what it is and what each of the map's places adds to it."""

    @staticmethod
    def forward(context: Any, maps: Tensor, with_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        values, by_maps = with_gradient(maps)
        context.save_for_backward(by_maps)
        return values

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (by_maps,) = context.saved_tensors
        return by_maps * gradient[:, None, None], None


def sparsity_with_gradient(heatmap: Heatmaps, *, p: float) -> tuple[PerImage, Heatmaps]:
    """`sparsity_loss` in its searched form, and its gradient by the pixels."""
    squares, pixels = heatmap.square(), heatmap[0].numel()
    if p == 0:
        per_unit = (squares + SPARSITY_TAU**2).reciprocal_()
        by_pixels = per_unit.square().mul_(heatmap).mul_(2 * SPARSITY_TAU**2 / pixels)
        return squares.mul_(per_unit).mean((1, 2)), by_pixels
    squares += _SPARSITY_EPS
    powers = squares.pow(p / 2)
    mean = powers.mean((1, 2))
    sparsity = mean.pow(1 / p)
    by_pixels = powers.div_(squares).mul_(heatmap).mul_((sparsity / mean)[:, None, None] / pixels)
    return sparsity, by_pixels
