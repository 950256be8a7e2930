"""Consistency and sparsity straight from raw maps: what the backward pass needs is taken along, and no pixel is kept.

Both terms are what `losses` and `ssim` make of the heatmaps, up to rounding. Whether a map is stretched to [0, 1]
before or after it is enlarged is the same, as the weights of a pixel sum to 1; only how far depends on the pixels.
Each term's gradient is known when the term is, and kept for the 7 x 7 cells.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gcc_search.saliency.geometry import upsampling_matrix
from gcc_search.saliency.losses import KnownGradient, range_of, sparsity_with_gradient, unstretched_gradient
from gcc_search.saliency.products import between, multiply
from gcc_search.saliency.resampling import Resampling
from gcc_search.saliency.shapes import PerImage, RawMaps, TwiceRawMaps
from gcc_search.saliency.ssim import correlation_with_gradient, similarity_with_gradient


def explanation_terms(
    maps: TwiceRawMaps, matrices: Resampling, *, p: float | None = None
) -> tuple[PerImage, PerImage | None]:
    """L_C of t(M(x)) and M(t(x)), in [0, 2], and S_p of M(x), in [0, 1], for each image.

    Args:
        maps: M(x) of B images, then M(t(x)), signed, at the network's resolution.
        matrices: of the B transforms. With windows, L_C is 1 - SSIM; without, 1 - Pearson's correlation.
        p: of the sparsity, at least 0; None where none is asked for.
    """
    similarity, sparsity = _Terms.apply(maps, matrices, p)
    return 1 - similarity, sparsity


def raw_sparsity(maps: RawMaps, size: int, *, p: float) -> PerImage:
    """S_p of each map at `size` x `size`, in [0, 1]."""
    sparsity: PerImage = KnownGradient.apply(maps, functools.partial(_sparsity_with_gradient, size=size, p=p))
    return sparsity


class _Terms(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, maps: Tensor, matrices: Resampling, p: float | None) -> tuple[Tensor, Tensor | None]:
        similarity, sparsity, by_maps = _terms_with_gradient(maps, matrices, p)
        context.save_for_backward(by_maps)
        return similarity, sparsity

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_similarity: Tensor, of_sparsity: Tensor | None) -> tuple[Tensor, None, None]:
        (by_maps,) = context.saved_tensors
        asked = [of_similarity, of_similarity] if of_sparsity is None else [of_similarity, of_similarity, of_sparsity]
        of_maps = by_maps * torch.stack(asked)[..., None, None]
        of_first = of_maps[0] if of_sparsity is None else of_maps[0] + of_maps[2]
        return torch.cat([of_first, of_maps[1]]), None, None


def _sparsity_with_gradient(maps: Tensor, size: int, p: float) -> tuple[Tensor, Tensor]:
    rows, columns = (upsampling_matrix(cells, size, maps.device).to(maps.dtype) for cells in maps.shape[1:])
    stretched = _stretch(maps, rows, columns)
    sparsity, by_cells = _sparsity(stretched.cells, rows, columns, p)
    return sparsity, stretched.gradient(by_cells)


def _terms_with_gradient(maps: Tensor, matrices: Resampling, p: float | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """The terms, and what each of two or three maps of an image adds to its own term, (2 or 3, B, c, c)."""
    first, second = maps.chunk(2)
    shown = torch.stack([first, second] if p is None else [first, second, first])
    rows, columns = matrices.pixels[:, : len(shown)]
    stretched = _stretch(shown, rows, columns)
    if matrices.means is None or matrices.pairs is None:
        similarity, by_cells = _correlation(stretched.cells[:2], rows[:2], columns[:2])
    else:
        similarity, by_cells = _similarity(stretched.cells[:2], matrices.means, matrices.pairs)
    sparsity = None
    if p is not None:
        sparsity, by_sparse_cells = _sparsity(stretched.cells[2], rows[2], columns[2], p)
        by_cells = torch.cat([by_cells, by_sparse_cells[None]])
    return similarity, sparsity, stretched.gradient(by_cells)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stretched:
    """Cells whose pixels are in [0, 1): `losses.normalise`. `at_low` and `at_high`: each cell's share in an extreme."""

    cells: Tensor
    per_unit: Tensor
    at_low: Tensor
    at_high: Tensor

    def gradient(self, by_cells: Tensor) -> Tensor:
        """By the maps, of what has this gradient by the stretched cells."""
        return unstretched_gradient(by_cells, self.cells, self.per_unit, self.at_low, self.at_high)


def _stretch(maps: Tensor, rows: Tensor, columns: Tensor) -> _Stretched:
    pixels = between(rows, maps, columns)
    low, high, per_unit = range_of(pixels)
    at_low, at_high = _shares_of_cells(pixels, torch.cat([low, high], -1), rows, columns).unbind(-2)
    return _Stretched(cells=(maps - low) * per_unit, per_unit=per_unit, at_low=at_low, at_high=at_high)


def _shares_of_cells(pixels: Tensor, extremes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each cell's share in each of two extremes, (..., c, 2, c): an extreme's gradient goes to all that reach it.

    Which pixels do is laid out (..., s, 2, s), so that no matrix has to be there twice.
    """
    size, cells = rows.shape[-2:]
    is_reached = torch.eq(
        pixels[..., :, None, :], extremes[..., None], out=pixels.new_empty(*pixels.shape[:-1], 2, pixels.shape[-1])
    )
    by_rows = multiply(rows.mT, is_reached.flatten(-2))
    shares = multiply(by_rows.view(*pixels.shape[:-2], 2 * cells, size), columns)
    shares = shares.view(*pixels.shape[:-2], cells, 2, -1)
    return shares / shares.sum((-3, -1), keepdim=True)


def _similarity(cells: Tensor, of_means: Tensor, of_pairs: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM of each image's two heatmaps, and its gradient by their cells, (2, B, c, c)."""
    a, b = cells
    first, second = torch.stack([a, b, a]), torch.stack([a, b, b])
    products = (first[..., :, None, :, None] * second[..., None, :, None, :]).flatten(-4, -3).flatten(-2)
    # Two terms, each with its own factors of rows and of columns, side by side.
    rows, columns = of_pairs[0].flatten(-3, -2), of_pairs[1].flatten(-2)
    variance_a, variance_b, covariance = multiply(multiply(rows, products).view_as(columns), columns.mT)
    means = between(of_means[0], cells, of_means[1])
    half_variance = variance_a.lerp_(variance_b, 0.5)
    similarity, by_means, by_variance, by_covariance = similarity_with_gradient(means, half_variance, covariance)

    by_covariances = torch.stack([by_variance, by_variance, by_covariance])
    by_products = multiply(rows.mT, multiply(by_covariances, columns).view_as(rows))
    by_products = by_products.view(*first.shape[:2], *(side for side in a.shape[-2:] for _ in range(2)))
    # A variance's two factors are the same, and half of it is what counts.
    by_first = (by_products * second[..., None, :, None, :]).sum((-3, -1))
    by_second = (by_products[2] * a[..., :, None, :, None]).sum((-4, -2))
    by_cells = between(of_means[0].mT, by_means, of_means[1].mT) + by_first[:2]
    by_cells += torch.stack([by_first[2], by_second])
    return similarity.mean((1, 2)), by_cells / similarity[0].numel()


def _correlation(cells: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson's correlation of each image's two heatmaps, and its gradient by their cells, (2, B, c, c)."""
    correlation, by_pixels = correlation_with_gradient(between(rows, cells, columns))
    return correlation, between(rows.mT, by_pixels, columns.mT)


def _sparsity(cells: Tensor, rows: Tensor, columns: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """S_p of each heatmap, and its gradient by the cells, (B, c, c)."""
    sparsity, by_pixels = sparsity_with_gradient(between(rows, cells, columns), p=p)
    return sparsity, between(rows.mT, by_pixels, columns.mT)
