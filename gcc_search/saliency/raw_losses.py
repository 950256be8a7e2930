"""Consistency and sparsity straight from raw maps: no pixel of a heatmap is kept, and none is gone back through.

Both terms are what `losses` and `ssim` make of the heatmaps, up to rounding. Whether a map is stretched to [0, 1]
before or after it is enlarged is the same, as the weights of a pixel sum to 1; only how far depends on the pixels.
Gradients are taken along with the terms, and kept for the 7 x 7 cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gcc_search.saliency.losses import range_of, sparsity_with_gradient
from gcc_search.saliency.products import multiply
from gcc_search.saliency.resampling import Resampling
from gcc_search.saliency.shapes import PerImage, TwiceRawMaps
from gcc_search.saliency.ssim import correlation_with_gradient, similarity_with_gradient


def explanation_terms(maps: TwiceRawMaps, matrices: Resampling, *, p: float | None) -> tuple[PerImage, PerImage | None]:
    """L_C of t(M(x)) and M(t(x)), in [0, 2], and S_p of M(x), in [0, 1], for each image.

    Args:
        maps: M(x) of B images, then M(t(x)), signed, at the network's resolution.
        matrices: of the B transforms. With windows, L_C is 1 - SSIM; without, 1 - Pearson's correlation.
        p: of the sparsity, at least 0; None where none is asked for.
    """
    similarity, sparsity = _Terms.apply(maps, matrices, p)
    return 1 - similarity, sparsity


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


def _terms_with_gradient(maps: Tensor, matrices: Resampling, p: float | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """The terms, and what each of two or three maps of an image adds to its own term, (2 or 3, B, h, w)."""
    first, second = maps.chunk(2)
    shown = torch.stack([first, second] if p is None else [first, second, first])
    rows, columns = matrices.shown[:, : len(shown)]
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
        along = _total(by_cells * self.cells)
        of_low = (along - _total(by_cells)) * self.at_low
        return (by_cells + of_low - along * self.at_high) * self.per_unit


def _stretch(maps: Tensor, rows: Tensor, columns: Tensor) -> _Stretched:
    pixels = _between(rows, maps, columns)
    low, high, per_unit = range_of(pixels)
    extremes = torch.stack([low, high])
    reached = torch.eq(pixels, extremes, out=pixels.new_empty(2, *pixels.shape))
    # An extreme's gradient goes to all the pixels that reach it, in equal shares.
    shares = _between(rows.mT, reached, columns.mT)
    at_low, at_high = shares / _total(shares)
    return _Stretched(cells=(maps - low) * per_unit, per_unit=per_unit, at_low=at_low, at_high=at_high)


def _similarity(cells: Tensor, of_means: Tensor, of_pairs: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM of each image's two heatmaps, and its gradient by their cells, (2, B, h, w)."""
    a, b = cells
    first, second = torch.stack([a, b, a]), torch.stack([a, b, b])
    pairs = first[..., :, None, :, None] * second[..., None, :, None, :]
    squares_a, squares_b, product = _between(of_pairs[0], pairs.flatten(-4, -3).flatten(-2), of_pairs[1])
    mean_a, mean_b = _between(of_means[0], cells, of_means[1])
    moments = mean_a, mean_b, (squares_a + squares_b) / 2, product
    similarity, by_moments = similarity_with_gradient(moments)
    by_means, by_pairs = by_moments[:2], torch.cat([by_moments[2:3], by_moments[2:]])
    by_means = _between(of_means[0].mT, by_means, of_means[1].mT)
    by_pairs = _between(of_pairs[0].mT, by_pairs, of_pairs[1].mT).view_as(pairs)
    by_first = (by_pairs * second[..., None, :, None, :]).sum((-3, -1))
    by_b_of_product = (by_pairs[2] * a[..., :, None, :, None]).sum((-4, -2))
    # Both factors of a square are the same, and its half is what counts.
    by_cells = by_means + by_first[:2] + torch.stack([by_first[2], by_b_of_product])
    return similarity.mean((1, 2)), by_cells / similarity[0].numel()


def _correlation(cells: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Pearson's correlation of each image's two heatmaps, and its gradient by their cells, (2, B, h, w)."""
    correlation, by_pixels = correlation_with_gradient(_between(rows, cells, columns))
    return correlation, _between(rows.mT, by_pixels, columns.mT)


def _sparsity(cells: Tensor, rows: Tensor, columns: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """S_p of each heatmap, and its gradient by the cells, (B, h, w)."""
    heatmaps = _between(rows, cells, columns)
    sparsity, by_pixels = sparsity_with_gradient(heatmaps, p=p)
    return sparsity, _between(rows.mT, by_pixels, columns.mT)


def _between(rows: Tensor, maps: Tensor, columns: Tensor) -> Tensor:
    return multiply(multiply(rows, maps), columns.mT)


def _total(maps: Tensor) -> Tensor:
    return maps.sum((-2, -1), keepdim=True)
