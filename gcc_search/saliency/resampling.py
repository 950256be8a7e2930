"""How the cells of raw maps reach pixels and the windows of structural similarity: matrices, which no network changes.

A map of c x c cells comes to its pixels as R m C', with a matrix of rows and one of columns. So does its mean over a
window, by the window's means r and s of both matrices. The covariance of two maps m and n over a window comes from the
products of every two of their cells:

    cov = (R * S) (m # n) (C * D + c # d)' + (r # s) (m # n) (C * D)'

Here # takes all products of two columns (of a matrix's columns, or of both dimensions of maps), and R * S is the
covariance of two matrices' columns over the window. It is small where the window is small beside a cell: no variance
is the difference of large numbers, as it is from the pixels. At 7 x 7 cells it takes a third of the time, and nothing
has to be taken back through pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, moving_matrices, upsampling_matrix
from gcc_search.saliency.products import multiply
from gcc_search.saliency.ssim import WINDOW, WINDOW_SIZE

# 384 pixels of a ResNet. The matrices grow with the square of the cells: 0.5 MB an image at 7, 2.6 MB at 12.
_MOST_CELLS = 12
# On a CPU: at 8 (64 pixels, 8 cells) pixels take five sixths of the time, at 12 half as long again.
_LEAST_PIXELS_A_CELL = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """Matrices of rows, then of columns, of B transforms: for maps of c x c cells at s x s pixels in v x v windows.

    Args:
        pixels: (2, 3, B, s, c), of t(M(x)), and of M(t(x)) and M(x), which come to the pixels as they are.
        means: (2, 2, B, v, c), a window's mean of t(M(x)) and of M(t(x)); None where no windows are compared.
        pairs: (2, 3, B, v, 2, c c), of the one's variance, the other's, and their covariance: the two terms' factors.
    """

    pixels: Tensor
    means: Tensor | None
    pairs: Tensor | None

    def tensors(self) -> list[Tensor]:
        """All of it, in the order in which `of_tensors` takes them."""
        return [tensor for tensor in (self.pixels, self.means, self.pairs) if tensor is not None]

    @classmethod
    def of_tensors(cls, pixels: Tensor, means: Tensor | None = None, pairs: Tensor | None = None) -> Resampling:
        """The matrices that had these `tensors`."""
        return cls(pixels=pixels, means=means, pairs=pairs)


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
        in_windows: those of structural similarity as well.
    """
    moved = moving_matrices(transforms, cells, size)
    whole = upsampling_matrix(cells, size, moved.device).expand_as(moved)
    pixels = torch.stack([moved, whole, whole], 1).to(dtype)
    if not in_windows:
        return Resampling(pixels=pixels, means=None, pairs=None)
    means, apart = _windows(torch.stack([moved, whole], 1), dtype)
    covariances, products = (_pairs(factors) for factors in (apart, means[..., None]))
    rows = torch.stack([covariances[0], products[0]], -2)
    columns = torch.stack([covariances[1] + products[1], covariances[1]], -2)
    return Resampling(pixels=pixels, means=means, pairs=torch.stack([rows, columns]))


def _windows(matrices: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Each column's mean over each window, (..., v, c), and how far the taps are from it, (..., v, c, taps).

    The latter are times the root of the tap's weight: products of them add up to covariances.
    """
    weights = _weights(matrices.device)
    taps = matrices.unfold(-2, WINDOW_SIZE, 1)
    means = (taps * weights).sum(-1)
    return means.to(dtype), ((taps - means[..., None]) * weights.sqrt()).to(dtype)


def _pairs(factors: Tensor) -> Tensor:
    """(2, 2, ..., c, taps) of t(M(x)) and M(t(x)): products of every two columns of one, of the other, and of both."""
    one, other = factors.unbind(1)
    return multiply(torch.stack([one, other, one], 1), torch.stack([one, other, other], 1).mT).flatten(-2)


@functools.cache
def _weights(device: torch.device) -> Tensor:
    return torch.tensor(WINDOW, dtype=torch.float64, device=device)
