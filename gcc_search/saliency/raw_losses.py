"""Consistency and sparsity straight from raw maps: what the backward pass needs is taken along, and no pixel is kept.

Both terms are what `losses` and `ssim` make of the heatmaps, up to rounding. Whether a map is stretched to [0, 1]
before or after it is enlarged is the same, as the weights of a pixel sum to 1; only how far depends on the pixels.
Each term's gradient is known when the term is, and kept for the 7 x 7 cells.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gcc_search.saliency.branches import beside
from gcc_search.saliency.geometry import upsampling_matrix
from gcc_search.saliency.losses import (
    KnownGradient,
    few_bits,
    mean_of_each,
    sparsity_with_gradient,
    unstretched_gradient,
    worth_of_unit,
)
from gcc_search.saliency.products import between, multiply
from gcc_search.saliency.resampling import Resampling, Stretching, stretching_of_whole
from gcc_search.saliency.shapes import PerImage, RawMaps, TwiceRawMaps
from gcc_search.saliency.ssim import similarity_with_gradient


def explanation_terms(
    maps: TwiceRawMaps, matrices: Resampling, *, p: float | None, size: int
) -> tuple[PerImage, PerImage | None]:
    """L_C of t(M(x)) and M(t(x)), in [0, 2], and S_p of M(x), in [0, 1], for each image.

    Args:
        maps: M(x) of B images, then M(t(x)), signed, at the network's resolution.
        matrices: of the B transforms. With windows, L_C is 1 - SSIM; without, 1 - Pearson's correlation.
        p: of the sparsity, at least 0; None where none is asked for.
        size: of the heatmap that sparsity is taken of, in pixels on a side.
    """
    if torch.is_grad_enabled() and maps.requires_grad:
        consistency, sparsity = _Terms.apply(maps, matrices, p, size)
        return consistency, sparsity
    return _terms(maps, matrices, p, size, learned_from=False)[:2]


def raw_sparsity(maps: RawMaps, size: int, *, p: float) -> PerImage:
    """S_p of each map at `size` x `size`, in [0, 1]."""
    sparsity: PerImage = KnownGradient.apply(maps, functools.partial(_sparsity_with_gradient, size=size, p=p))
    return sparsity


class _Terms(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, maps: Tensor, matrices: Resampling, p: float | None, size: int
    ) -> tuple[Tensor, Tensor | None]:
        consistency, sparsity, by_maps = _terms(maps, matrices, p, size, learned_from=True)
        context.save_for_backward(by_maps)
        return consistency, sparsity

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_consistency: Tensor, of_sparsity: Tensor | None) -> tuple[Tensor, None, None, None]:
        (by_maps,) = context.saved_tensors
        asked = [of_consistency, of_consistency] + ([] if of_sparsity is None else [of_sparsity])
        of_maps = by_maps * torch.stack(asked)[..., None, None]
        of_first = of_maps[0] if of_sparsity is None else of_maps[0] + of_maps[2]
        return torch.cat([of_first, of_maps[1]]), None, None, None


def _terms(
    maps: Tensor, matrices: Resampling, p: float | None, size: int, *, learned_from: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The terms, and what each of an image's two or three maps adds to its own, (2 or 3, B, c, c), where asked for."""
    first, second = maps.chunk(2)
    shown = torch.stack([first, second] if p is None else [first, second, first])
    stretched = _stretch(shown, matrices.stretching(len(shown)))
    third = shares = by_maps = None
    if p is not None:
        third = beside(
            lambda: _sparsity(stretched.cells[2], size, p, learned_from=learned_from), maps, worthwhile=learned_from
        )
    if learned_from:
        shares = beside(stretched.shares_of_cells, maps)
    compare = _similarity if matrices.in_windows else _correlation
    similarity, by_cells = compare(stretched.cells[:2], matrices, learned_from=learned_from)
    sparsity, by_third = (None, []) if third is None else third()
    if shares is not None:
        by_maps = stretched.gradient(torch.stack([*by_cells, *by_third]), shares())
    return 1 - similarity, sparsity, by_maps


def _sparsity_with_gradient(maps: Tensor, size: int, p: float) -> tuple[Tensor, Tensor]:
    stretched = _stretch(maps, stretching_of_whole(*maps.shape[1:], size, maps.device, maps.dtype))
    sparsity, (by_cells,) = _sparsity(stretched.cells, size, p, learned_from=True)
    return sparsity, stretched.gradient(by_cells, stretched.shares_of_cells())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stretched:
    """Cells whose pixels are in [0, 1), up to rounding: `losses.normalise`."""

    cells: Tensor
    per_unit: Tensor
    candidates: Tensor
    extremes: Tensor
    rows: Tensor
    columns: Tensor

    def gradient(self, by_cells: Tensor, shares: Tensor) -> Tensor:
        """By the maps, of what has this gradient by the stretched cells."""
        return unstretched_gradient(by_cells, self.cells, self.per_unit, *shares.unbind(-2))

    def shares_of_cells(self) -> Tensor:
        """Each cell's share in either extreme, (..., c, 2, c): its gradient goes to all candidates that reach it.

        Which do is laid out (..., e, 2, e), so that no matrix has to be there twice.
        """
        size = self.candidates.shape[-1]
        is_reached = torch.eq(
            self.candidates[..., None, :],
            self.extremes[..., None],
            out=self.candidates.new_empty(*self.candidates.shape[:-1], 2, size),
        )
        by_rows = multiply(self.rows.mT, is_reached.flatten(-2))
        shares = multiply(by_rows.view(*by_rows.shape[:-2], -1, size), self.columns)
        shares = shares.view(*by_rows.shape[:-1], 2, -1)
        return shares / shares.sum((-3, -1), keepdim=True)


def _stretch(maps: Tensor, by: Stretching) -> _Stretched:
    rows, columns = by.extremes
    candidates = between(rows, maps, columns)
    low, high = (extreme[..., None] for extreme in candidates.flatten(-2).aminmax(dim=-1, keepdim=True))
    above = maps - low
    line = above.flatten(-2)[..., None, :]
    variance = multiply(multiply(line, by.spread), line.mT)
    per_unit = worth_of_unit(low, high, variance, rounding=few_bits(maps.dtype))
    return _Stretched(
        cells=above * per_unit,
        per_unit=per_unit,
        candidates=candidates,
        extremes=torch.cat([low, high], -1),
        rows=rows,
        columns=columns,
    )


_ByCells = Sequence[Tensor]


def _similarity(cells: Tensor, matrices: Resampling, *, learned_from: bool) -> tuple[Tensor, _ByCells]:
    """SSIM of each image's two heatmaps, and the gradient of 1 - SSIM by their cells, where it is asked for."""
    of_rows, of_columns = matrices.window_means
    means = beside(lambda: between(of_rows, cells, of_columns), cells, lane=1, worthwhile=learned_from)
    pairs = _Pairs(cells, matrices)
    spread = pairs.spread()
    similarity, by_a, by_b, *by_spread = similarity_with_gradient(*means(), *spread)
    if not learned_from:
        return mean_of_each(similarity), []

    def by_means() -> Tensor:
        each = zip(of_rows, (by_a, by_b), of_columns, strict=True)
        return torch.stack([between(rows.mT, by, columns.mT) for rows, by, columns in each])

    of_means = beside(by_means, cells)
    by_cells = pairs.by_cells(by_spread)
    by_cells += of_means()
    return mean_of_each(similarity), (by_cells / -similarity[0].numel()).unbind()


class _Pairs:
    """Products of every two cells of a and a, b and b, a and b, of which windows' variances and covariance are sums."""

    def __init__(self, cells: Tensor, matrices: Resampling) -> None:
        a, b = cells
        self._left, self._right = torch.stack([a, b, a], 1), torch.stack([a, b, b], 1)
        products = self._left[..., :, None, :, None] * self._right[..., None, :, None, :]
        self._shape = products.shape
        # What a window's variances are made of lies side by side, and so do two terms: a sum of products is one.
        self._rows, self._columns = matrices.pair_rows.flatten(2), matrices.pair_columns.flatten(2, 3)
        at_columns = multiply(products.flatten(-4, -3).flatten(-2), self._columns.mT)
        self._at_columns = at_columns.view(*self._rows.mT.shape[:2], -1)
        num_factors = self._rows.shape[-1]
        self._parts = slice(num_factors * 2 // 3), slice(num_factors * 2 // 3, num_factors)

    def spread(self) -> list[Tensor]:
        """The sum of both variances, and the covariance, in every window."""
        return [multiply(self._rows[..., part], self._at_columns[:, part]) for part in self._parts]

    def by_cells(self, by_spread: Sequence[Tensor]) -> Tensor:
        """The gradient by the cells of what has this one by half of the variances' sum, and by the covariance."""
        by_columns = torch.empty_like(self._at_columns)
        for part, by in zip(self._parts, by_spread, strict=True):
            multiply(self._rows[..., part].mT, by, out=by_columns[:, part])
        by_products = multiply(by_columns.view(*self._shape[:2], -1, self._columns.shape[-2]), self._columns)
        by_pairs = by_products.view(self._shape).transpose(-3, -2).flatten(-4, -3).flatten(-2)
        # A variance's two factors are the same, and half of it is what counts.
        by_left = multiply(by_pairs, self._right.flatten(-2)[..., None]).view_as(self._left).transpose(0, 1)
        of_a = self._left[:, 2]
        by_right = multiply(by_pairs[:, 2].mT, of_a.flatten(-2)[..., None]).view_as(of_a)
        return by_left[:2] + torch.stack([by_left[2], by_right])


def _correlation(cells: Tensor, matrices: Resampling, *, learned_from: bool) -> tuple[Tensor, _ByCells]:
    """Pearson's correlation of each image's two heatmaps, and the gradient of 1 - correlation by their cells."""
    across = matrices.covariance
    # About their mean: a map that is 1 nearly everywhere is little more than rounding otherwise.
    line = cells.flatten(-2)[..., None]
    line = line - line.mean(-2, keepdim=True)
    of_own = multiply(matrices.spread[:2], line)
    of_other = torch.stack([multiply(across, line[1]), multiply(across.mT, line[0])])
    variances = (line * of_own).sum(-2, keepdim=True)
    # A constant map's cells are all 0.
    per_deviation = variances.masked_fill(variances <= 0, torch.inf).rsqrt()
    correlation = (line[0] * of_other[0]).sum(-2, keepdim=True) * per_deviation.prod(0)
    if not learned_from:
        return correlation.flatten(), []
    own = of_own * (correlation * per_deviation.square())
    return correlation.flatten(), (own - of_other * per_deviation.prod(0)).view_as(cells).unbind()


def _sparsity(cells: Tensor, size: int, p: float, *, learned_from: bool) -> tuple[Tensor, _ByCells]:
    """S_p of each heatmap, and its gradient by the cells, where it is asked for."""
    rows, columns = (upsampling_matrix(side, size, cells.device, cells.dtype) for side in cells.shape[1:])
    sparsity, by_pixels, scale = sparsity_with_gradient(between(rows, cells, columns), p=p)
    return sparsity, [between(rows.mT, by_pixels, columns.mT) * scale] if learned_from else []
