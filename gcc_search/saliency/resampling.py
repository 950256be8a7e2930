"""How the cells of raw maps reach pixels and the windows of structural similarity: matrices, which no network changes.

A map of c x c cells comes to its pixels as R m C', with a matrix of rows and one of columns. So does its mean over a
window, by the window's means r and s of both matrices. The covariance of two maps m and n over a window comes from the
products of every two of their cells:

    cov = (R * S) (m # n) (C * D + c # d)' + (r # s) (m # n) (C * D)'

Here # takes all products of two columns (of a matrix's columns, or of both dimensions of maps), and R * S is the
covariance of two matrices' columns over the window. It is small where the window is small beside a cell: no variance
is the difference of large numbers, as it is from the pixels. At 7 x 7 cells it takes a third of the time, and nothing
has to be taken back through pixels.

Over all pixels at once the same is m' K n, with the cells of both maps in line and K of c c rows. And a map's least
and greatest pixel are found among few: between the middles of two rows of cells, and of two columns, it is bilinear,
and greatest at a corner of the pixels there.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, moving_matrices, upsampling_matrix
from gcc_search.saliency.products import multiply
from gcc_search.saliency.ssim import WINDOW, WINDOW_SIZE

# 384 pixels of a ResNet. The matrices grow with the square of the cells: 0.6 MB an image at 7, 2.9 MB at 12.
_MOST_CELLS = 12
# On a CPU: at 8 (64 pixels, 8 cells) pixels take five sixths of the time, at 12 half as long again.
_LEAST_PIXELS_A_CELL = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretching:
    """What it takes to stretch maps of c x c cells to [0, 1] at their pixels.

    Args:
        extremes: those rows of pixels, then columns, among which a map has its extremes, (..., e, c) each.
        spread: (..., c c, c c): a map's cells on both sides of it give its pixels' variance.
    """

    extremes: tuple[Tensor, Tensor]
    spread: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """Matrices of B transforms, for maps of c x c cells in v x v windows.

    Three maps of each image come to pixels: t(M(x)), M(t(x)), and M(x), the last two as they are.

    Args:
        extremes: (2, 3, B, e, c), and spread: (3, B, c c, c c), of `Stretching`.
        others: either `covariance`, or `window_means`, `pair_rows` and `pair_columns`.
    """

    extremes: Tensor
    spread: Tensor
    others: tuple[Tensor, ...]

    @property
    def in_windows(self) -> bool:
        """Whether maps are compared window by window."""
        return len(self.others) > 1

    @property
    def covariance(self) -> Tensor:
        """Over all pixels, between the cells of t(M(x)) and of M(t(x)), (B, c c, c c)."""
        (covariance,) = self.others
        return covariance

    @property
    def window_means(self) -> Tensor:
        """A window's mean of t(M(x)) or of M(t(x)), rows and columns, (2, 2, B, v, c)."""
        return self.others[0]

    @property
    def pair_rows(self) -> Tensor:
        """Of the one's variance, the other's, and their covariance, two terms' factors, (B, v, 3, c c, 2)."""
        return self.others[1]

    @property
    def pair_columns(self) -> Tensor:
        """What belongs to `pair_rows`, (B, 3, 2, v, c c)."""
        return self.others[2]

    @property
    def cells(self) -> int:
        """c."""
        return self.extremes.shape[-1]

    def stretching(self, count: int) -> Stretching:
        """Of the first `count` of the three maps."""
        rows, columns = self.extremes[:, :count]
        return Stretching(extremes=(rows, columns), spread=self.spread[:count])

    def tensors(self) -> list[Tensor]:
        """All of it, in the order in which `of_tensors` takes them."""
        return [self.extremes, self.spread, *self.others]

    @classmethod
    def of_tensors(cls, extremes: Tensor, spread: Tensor, *others: Tensor) -> Resampling:
        """The matrices that had these `tensors`."""
        return cls(extremes=extremes, spread=spread, others=others)


def is_worthwhile(cells: int, size: int, device: torch.device, *, in_windows: bool) -> bool:
    """Whether maps of `cells` on a side are compared by way of these matrices at `size` pixels, not by their pixels."""
    # A GPU minds how many operations there are, and there are half as many.
    is_sparse = device.type == "cuda" or not in_windows or size >= _LEAST_PIXELS_A_CELL * cells
    return cells <= _MOST_CELLS and size >= WINDOW_SIZE and is_sparse


def make_resampling(
    transforms: Transforms, cells: int, size: int, dtype: torch.dtype, *, in_windows: bool
) -> Resampling:
    """The matrices of `transforms`, on their device, for maps of `cells` x `cells` at `size` x `size` pixels.

    Args:
        in_windows: those of structural similarity, not those of correlation.
    """
    return make_resamplings(transforms, cells, size, dtype, in_windows=[in_windows])[0]


def make_resamplings(
    transforms: Transforms, cells: int, size: int, dtype: torch.dtype, *, in_windows: Sequence[bool]
) -> list[Resampling]:
    """One after another as `make_resampling` makes them; what they have in common is made once."""
    moved = moving_matrices(transforms, cells, size)
    # M(t(x)) and M(x) come to their pixels alike, and in every image.
    whole = stretching_of_whole(cells, cells, size, moved.device, dtype)
    of_moved, spread = _rows_of_extremes(moved, size).to(dtype), _covariance_of_pixels(moved, moved).to(dtype)
    of_whole = torch.stack(whole.extremes)[:, None].expand_as(of_moved)
    extremes = torch.stack([of_moved, of_whole, of_whole], 1)
    spread = torch.stack([spread, *[whole.spread.expand_as(spread)] * 2])
    made = []
    for is_in_windows in in_windows:
        make = _of_windows if is_in_windows else _of_pixels
        made.append(Resampling(extremes=extremes, spread=spread, others=make(moved, cells, size, dtype)))
    return made


def _of_pixels(moved: Tensor, cells: int, size: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What `Resampling` holds for correlation."""
    whole = upsampling_matrix(cells, size, moved.device).expand_as(moved)
    return (_covariance_of_pixels(moved, whole).to(dtype),)


def _of_windows(moved: Tensor, cells: int, size: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What `Resampling` holds for windows."""
    means, apart = _windows(moved, dtype)
    means_of_whole, apart_of_whole, pairs_of_whole = _windows_of_whole(cells, size, moved.device, dtype)
    _, count, places, _ = means.shape
    rows, columns = means.new_empty(count, places, 3, cells**2, 2), means.new_empty(count, 3, 2, places, cells**2)
    of_both = _pairs(means, apart, means_of_whole, apart_of_whole)
    for kind, (covariances, products) in enumerate([_pairs(means, apart, means, apart), pairs_of_whole, of_both]):
        rows[:, :, kind, :, 0], rows[:, :, kind, :, 1] = covariances[0], products[0]
        columns[:, kind, 0], columns[:, kind, 1] = covariances[1] + products[1], covariances[1]
    return torch.stack([means, means_of_whole.expand_as(means)], 1), rows, columns


@functools.cache
def _windows_of_whole(
    cells: int, size: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Means and taps, and pairs of these, of maps that come to their pixels as they are; (2, 1, v, ...)."""
    whole = upsampling_matrix(cells, size, torch.device("cpu")).expand(2, 1, -1, -1)
    means, apart = _windows(whole, dtype)
    covariances, products = _pairs(means, apart, means, apart)
    return means.to(device), apart.to(device), (covariances.to(device), products.to(device))


@functools.cache
def stretching_of_whole(height: int, width: int, size: int, device: torch.device, dtype: torch.dtype) -> Stretching:
    """Of maps of `height` x `width` cells that come to `size` x `size` pixels as they are."""
    # On the CPU, and sent: who reads it from another stream does not find it half made.
    rows, columns = (upsampling_matrix(cells, size, torch.device("cpu")) for cells in (height, width))
    extremes = [_rows_of_extremes(matrix, size).to(device, dtype) for matrix in (rows, columns)]
    spread = _every_pair(*_moments(rows, rows), *_moments(columns, columns))
    return Stretching(extremes=(extremes[0], extremes[1]), spread=spread.to(device, dtype))


def _rows_of_extremes(matrices: Tensor, size: int) -> Tensor:
    """Of matrices (..., s, c) the rows on either side of each bend, (..., e, c), or all where these are no fewer."""
    cells = matrices.shape[-1]
    numbers, bends = _bends(cells, size, matrices.device)
    if 2 * len(bends) >= size:
        return matrices
    apart = (matrices @ numbers)[..., None] - bends
    # Whatever is on the wrong side is further away than all that is on the right one.
    sides = [torch.add(apart.abs(), is_wrong, alpha=2 * cells) for is_wrong in (apart > 0, apart < 0)]
    picked = torch.cat(sides, -1).argmin(-2)[..., None].expand(*matrices.shape[:-2], -1, cells)
    return matrices.gather(-2, picked)


@functools.cache
def _bends(cells: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The cells' numbers, and as such a number each place where a map that was brought to `size` pixels may bend.

    A map is linear from pixel to pixel, so that it bends at the two about a cell's middle.
    """
    numbers = torch.arange(cells, dtype=torch.float64)
    below = (((numbers + 0.5) * size / cells) - 0.5).floor()
    pixels = torch.cat([below, below + 1]).clamp(0, size - 1).long()
    at_pixels = upsampling_matrix(cells, size, torch.device("cpu")) @ numbers
    return numbers.to(device), at_pixels[pixels].to(device)


def _covariance_of_pixels(one: Tensor, other: Tensor) -> Tensor:
    """K (..., c c, c c) of maps that have these matrices of rows and of columns, (2, ..., s, c)."""
    (of_rows, of_columns), (by_rows, by_columns) = _moments(one, other)
    return _every_pair(of_rows, by_rows, of_columns, by_columns)


def _moments(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Covariances of one's columns and the other's, and products of their means, (..., c, c)."""
    means = [matrix.mean(-2, keepdim=True) for matrix in (one, other)]
    apart = [matrix - mean for matrix, mean in zip((one, other), means, strict=True)]
    return apart[0].mT @ apart[1] / one.shape[-2], means[0].mT * means[1]


def _every_pair(of_rows: Tensor, by_rows: Tensor, of_columns: Tensor, by_columns: Tensor) -> Tensor:
    """Covariances of products, from covariances and products of means of their factors."""

    def product(rows: Tensor, columns: Tensor) -> Tensor:
        return (rows[..., :, None, :, None] * columns[..., None, :, None, :]).flatten(-4, -3).flatten(-2)

    return product(of_rows, of_columns + by_columns) + product(by_rows, of_columns)


def _windows(matrices: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Each column's mean over each window, (..., v, c), and how far the taps are from it, (..., v, c, taps).

    The latter are times the root of the tap's weight: products of them add up to covariances.
    """
    weights = _weights(matrices.device)
    taps = matrices.unfold(-2, WINDOW_SIZE, 1)
    means = (taps * weights).sum(-1)
    return means.to(dtype), ((taps - means[..., None]) * weights.sqrt()).to(dtype)


def _pairs(means: Tensor, apart: Tensor, other_means: Tensor, other_apart: Tensor) -> tuple[Tensor, Tensor]:
    """Covariances within windows of every two columns, one's and the other's, and products of their means."""
    covariances = multiply(apart, other_apart.mT).flatten(-2)
    return covariances, (means[..., :, None] * other_means[..., None, :]).flatten(-2)


@functools.cache
def _weights(device: torch.device) -> Tensor:
    return torch.tensor(WINDOW, dtype=torch.float64, device=device)
