"""From map to heatmap, and the two terms that equation 4 adds to cross-entropy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gcc_search.saliency.fused import fused
from gcc_search.saliency.geometry import upsampling_matrix
from gcc_search.saliency.products import between
from gcc_search.saliency.shapes import Claims, Heatmaps, PerImage, RawMaps, SizedHeatmaps
from gcc_search.saliency.ssim import pearson_correlation, structural_similarity

SPARSITY_TAU = 0.1
"""Heatmap value that counts half in the trainable stand-in for p = 0."""
_SPARSITY_EPS = 1e-6
"""Added to a pixel's square: what is 0 has a gradient, and every p > 0 a value."""
_EPS_OF_DEVIATION, _LEAST_EPS = 1e-3, 1e-6
"""Of `normalise`."""
_SIMILARITIES = {"ssim": structural_similarity, "correlation": pearson_correlation}


def upsample(maps: RawMaps, size: int) -> SizedHeatmaps:
    """Maps at `size` x `size`, bilinear, align_corners False.

    Where there is something to be learned by products of matrices: see `geometry.move_maps`.
    """
    if maps.requires_grad:
        rows, columns = (upsampling_matrix(cells, size, maps.device, maps.dtype) for cells in maps.shape[1:])
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
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    per_unit = worth_of_unit(low, high, _variance(maps, low, high), rounding=few_bits(maps.dtype))
    return (maps - low) * per_unit, per_unit


@fused(
    """template <typename T> void worth_of_unit(
        T low, T high, T variance, T rounding, T of_deviation, T least, T& per_unit) {
      T spread = high - low, greatest = -low < high ? high : -low;
      T deviation = ::sqrt(variance < 0 ? T(0) : variance);
      deviation = spread < 2 * deviation ? spread / 2 : deviation;
      per_unit = spread <= greatest * rounding ? T(0) : 1 / (spread + of_deviation * deviation + least);
    }""",
    outputs=1,
    rounding=0.0,
    of_deviation=_EPS_OF_DEVIATION,
    least=_LEAST_EPS,
)
def worth_of_unit(
    low: Tensor, high: Tensor, variance: Tensor, *, rounding: float, of_deviation: float, least: float
) -> Tensor:
    """What a unit of each map is worth in N(m), from its extremes and its variance; 0 where it is constant.

    Args:
        rounding: how far two equal values may be from each other, as a share of the greater.
        of_deviation, least: eps is this share of the deviation, and this on top.
    """
    spread = high - low
    # No deviation is more than half of the spread; the square of a large one is infinite.
    deviation = variance.clamp(min=0).sqrt_().minimum(spread / 2)
    per_unit = torch.add(spread, deviation, alpha=of_deviation).add_(least).reciprocal_()
    return per_unit.masked_fill_(spread <= _rounding(low, high, rounding), 0)


def _variance(maps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Population variance of each map (..., h, w), (..., 1, 1)."""
    if maps.is_cuda:
        return maps.var((-2, -1), correction=0, keepdim=True)
    # On a CPU torch's own goes from one value to the next, and takes ten times as long.
    spread = (high - low).clamp(min=torch.finfo(maps.dtype).tiny)
    within = (maps - low) / spread
    mean_square = torch.linalg.vector_norm(within, dim=(-2, -1), keepdim=True).square() / maps.shape[-2:].numel()
    variance: Tensor = mean_square - within.mean((-2, -1), keepdim=True).square()
    return variance * spread.square()


def _normalised_gradient(gradient: Tensor, heatmaps: Tensor, per_unit: Tensor) -> Tensor:
    low, high = (_shares(heatmaps, extreme((1, 2), keepdim=True)) for extreme in (heatmaps.amin, heatmaps.amax))
    return unstretched_gradient(gradient, heatmaps, per_unit, low, high)


def unstretched_gradient(
    gradient: Tensor, heatmaps: Tensor, per_unit: Tensor, at_low: Tensor, at_high: Tensor
) -> Tensor:
    """By maps (..., h, w), of what has this gradient by N(m); of the heatmaps' pixels, or of cells that stand for them.

    Args:
        per_unit: as `worth_of_unit` has it.
        at_low, at_high: each place's share in the extreme that its map was stretched by.
    """
    along = (gradient * heatmaps).sum((-2, -1), keepdim=True)
    return _unstretched(gradient, gradient.sum((-2, -1), keepdim=True), along, at_low, at_high, per_unit)


@fused(
    """template <typename T> void unstretched(
        T gradient, T total, T along, T at_low, T at_high, T per_unit, T& by_map) {
      by_map = (gradient + (along - total) * at_low - along * at_high) * per_unit;
    }""",
    outputs=1,
)
def _unstretched(
    gradient: Tensor, total: Tensor, along: Tensor, at_low: Tensor, at_high: Tensor, per_unit: Tensor
) -> Tensor:
    return torch.addcmul(gradient, along - total, at_low).addcmul_(along, at_high, value=-1).mul_(per_unit)


def _shares(heatmaps: Tensor, extremes: Tensor) -> Tensor:
    """What each pixel has of the gradient of its map's extreme: equal shares for all that reach it."""
    at = (heatmaps == extremes).to(heatmaps.dtype)
    return at / at.sum((1, 2), keepdim=True)


def is_degenerate(maps: Heatmaps) -> Claims:
    """Whether each map is constant, up to the rounding that upsampling leaves on a constant. False for NaN."""
    low, high = maps.detach().amin((1, 2)), maps.detach().amax((1, 2))
    return high - low <= _rounding(low, high, few_bits(maps.dtype))


def few_bits(dtype: torch.dtype) -> float:
    """By how much of them equal values may differ that came about differently."""
    return 16 * torch.finfo(dtype).eps


def _rounding(low: Tensor, high: Tensor, share: float) -> Tensor:
    """How far two equal values may be from each other; `high` is not below `low`."""
    # So the greater of their sizes is one of these.
    return torch.maximum(-low, high) * share


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
    searched: PerImage = KnownGradient.apply(heatmap, functools.partial(_searched_sparsity, p=p))
    return searched


def _searched_sparsity(heatmap: Heatmaps, p: float) -> tuple[PerImage, Heatmaps]:
    sparsity, by_pixels, scale = sparsity_with_gradient(heatmap, p=p)
    return sparsity, by_pixels.mul_(scale)


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


def sparsity_with_gradient(heatmap: Heatmaps, *, p: float) -> tuple[PerImage, Heatmaps, Tensor | float]:
    """`sparsity_loss` in its searched form, and its gradient by the pixels: a tensor like them, and what it is to be
    multiplied by, (B, 1, 1) or a number.
    """
    pixels = heatmap[0].numel()
    if p == 0:
        squares = heatmap.square()
        per_unit = (squares + SPARSITY_TAU**2).reciprocal_()
        return mean_of_each(squares.mul_(per_unit)), per_unit.square_().mul_(heatmap), 2 * SPARSITY_TAU**2 / pixels
    powers, by_pixels = _powers(heatmap, half_p=p / 2)
    mean = mean_of_each(powers)
    sparsity = mean.pow(1 / p)
    return sparsity, by_pixels, (sparsity / mean)[:, None, None] / pixels


@fused(
    """template <typename T> void powers(T value, T half_p, T eps, T& power, T& by_value) {
      T square = value * value + eps;
      power = ::pow(square, half_p);
      by_value = power / square * value;
    }""",
    outputs=2,
    half_p=0.5,
    eps=_SPARSITY_EPS,
)
def _powers(heatmap: Tensor, *, half_p: float, eps: float) -> tuple[Tensor, Tensor]:
    """(m^2 + eps)^(p/2) of each pixel, and its gradient by the pixel, but for the factor p."""
    squares = heatmap.square().add_(eps)
    powers = squares.pow(half_p)
    return powers, squares.reciprocal_().mul_(powers).mul_(heatmap)


def mean_of_each(maps: Tensor) -> PerImage:
    """The mean of each map (B, h, w), by its rows: a GPU has few images to share out, and many rows."""
    return maps.mean(2).mean(1)
