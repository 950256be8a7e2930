"""How the cells of raw maps reach pixels and the windows of structural similarity: matrices, which no network changes.

A map of h x w cells comes to its pixels as R m C', with a matrix of rows and one of columns. So does its mean over a
window, with both matrices averaged by the window before. And so does the mean of a product of two maps, from the
products of every two of their cells:

    w * (R m C' . S n D') = (w * (R # S)) (m # n) (w * (C # D))',

where # takes all products of two columns (of rows and of columns for the maps). At 7 x 7 cells that is a twentieth
of the work of filtering pixels, and nothing of it has to be taken back through them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, moving_matrices, upsampling_matrix
from gcc_search.saliency.ssim import WINDOW_SIZE, filter_along_rows

# Beyond, pixels are the cheaper way: the matrices grow with the square of the cells.
_MOST_CELLS = 16
# Half a cell: between two cells alone, a map that is stretched to [0, 1] there has cells far outside, and its variance
# would be the small difference of large numbers.
_LEAST_CROP_CELLS = 0.5
# Of the sides of a crop, at the transforms' ratio of 3/4 to 4/3.
_LEAST_SIDE = 0.75**0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """Matrices of rows, then of columns, of B transforms: for maps of c x c cells at s x s pixels in v x v windows.

    Args:
        shown: (2, 3, B, s, c), of t(M(x)), and of M(t(x)) and M(x), which come to the pixels as they are.
        means: (2, 2, B, v, c), a window's mean of t(M(x)) and of M(t(x)); None where no windows are compared.
        pairs: (2, 3, B, v, c c), a window's mean of the squares of the one, of the other, and of their product.
    """

    shown: Tensor
    means: Tensor | None
    pairs: Tensor | None

    def tensors(self) -> list[Tensor]:
        """All of it, in the order in which `of_tensors` takes them."""
        return [tensor for tensor in (self.shown, self.means, self.pairs) if tensor is not None]

    @classmethod
    def of_tensors(cls, shown: Tensor, means: Tensor | None = None, pairs: Tensor | None = None) -> Resampling:
        """The matrices that had these `tensors`."""
        return cls(shown=shown, means=means, pairs=pairs)


def is_worthwhile(cells: int, size: int, *, least_scale: float) -> bool:
    """Whether maps of `cells` on a side are compared by way of these matrices, with no loss of precision.

    Args:
        least_scale: of the transforms, as a share of the frame's area.
    """
    is_wide = least_scale**0.5 * _LEAST_SIDE * cells >= _LEAST_CROP_CELLS
    return cells <= _MOST_CELLS and size >= WINDOW_SIZE and is_wide


def resampling(transforms: Transforms, cells: int, size: int, dtype: torch.dtype, *, in_windows: bool) -> Resampling:
    """The matrices of `transforms`, on their device, for maps of `cells` x `cells` at `size` x `size` pixels.

    Args:
        in_windows: those of structural similarity as well.
    """
    moved = moving_matrices(transforms, cells, size).to(dtype)
    whole = upsampling_matrix(cells, size, moved.device).to(dtype).expand_as(moved)
    shown = torch.stack([moved, whole, whole], 1)
    if not in_windows:
        return Resampling(shown=shown, means=None, pairs=None)
    # Each of the three products has a second factor from `shown`.
    products = torch.stack([moved, whole, moved], 1)[..., :, None] * shown[..., None, :]
    pairs = filter_along_rows(products.flatten(-2))
    return Resampling(shown=shown, means=filter_along_rows(shown[:, :2]), pairs=pairs)
