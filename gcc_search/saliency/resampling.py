"""How the cells of raw maps reach pixels and the windows of structural similarity: matrices, which no network changes.

A map of h x w cells comes to its pixels as R m C', with a matrix of rows and one of columns. So does its mean over a
window, with both matrices averaged by the window before. And so does the mean of a product of two maps, from the
products of every two of their cells:

    w * (R m C' . S n D') = (w * (R # S)) (m # n) (w * (C # D))',

where # takes all products of two columns (of rows and of columns for the maps). At 7 x 7 cells that is a twentieth
of the work of filtering pixels, and nothing of it has to be taken back through them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

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
class Windows:
    """Matrices to v x v windows. Those of columns are as those of rows, with w in the place of h.

    Args:
        mean_rows: (2, B, v, h), a window's mean of t(M(x)) and of M(t(x)).
        pair_rows: (3, B, v, h h), a window's mean of the squares of the one, of the other, and of their product.
    """

    mean_rows: Tensor
    mean_columns: Tensor
    pair_rows: Tensor
    pair_columns: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """Matrices of a batch of B transforms, for maps of h x w cells at s x s pixels.

    Args:
        rows: (3, B, s, h), of t(M(x)), and of M(t(x)) and M(x), which come to the pixels as they are.
        columns: (3, B, s, w).
        windows: of structural similarity, where that is what compares.
    """

    rows: Tensor
    columns: Tensor
    windows: Windows | None

    def tensors(self) -> list[Tensor]:
        """All of it, in the order in which `of_tensors` takes them."""
        return [self.rows, self.columns, *(vars(self.windows).values() if self.windows is not None else ())]

    @classmethod
    def of_tensors(cls, rows: Tensor, columns: Tensor, *windows: Tensor) -> Resampling:
        """The matrices that had these `tensors`."""
        names = [field.name for field in fields(Windows)]
        return cls(
            rows=rows,
            columns=columns,
            windows=Windows(**dict(zip(names, windows, strict=True))) if windows else None,
        )


def is_worthwhile(cells: int, size: int, *, least_scale: float) -> bool:
    """Whether maps of `cells` on a side are compared by way of these matrices, with no loss of precision.

    Args:
        least_scale: of the transforms, as a share of the frame's area.
    """
    is_wide = least_scale**0.5 * _LEAST_SIDE * cells >= _LEAST_CROP_CELLS
    return cells <= _MOST_CELLS and size >= WINDOW_SIZE and is_wide


def resampling(
    transforms: Transforms, cells: tuple[int, int], size: int, dtype: torch.dtype, *, in_windows: bool
) -> Resampling:
    """The matrices of `transforms`, on their device, for maps of `cells` (rows, columns) at `size` x `size` pixels.

    Args:
        in_windows: those of structural similarity as well.
    """
    rows, columns = (_of_all(moved.to(dtype)) for moved in moving_matrices(transforms, cells, size))
    if not in_windows:
        return Resampling(rows=rows, columns=columns, windows=None)
    mean_rows, pair_rows = _windows(rows)
    mean_columns, pair_columns = _windows(columns)
    windows = Windows(mean_rows=mean_rows, mean_columns=mean_columns, pair_rows=pair_rows, pair_columns=pair_columns)
    return Resampling(rows=rows, columns=columns, windows=windows)


def _of_all(moved: Tensor) -> Tensor:
    whole = upsampling_matrix(moved.shape[2], moved.shape[1], moved.device).to(moved.dtype).expand_as(moved)
    return torch.stack([moved, whole, whole])


def _windows(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Of one dimension: windows' means of single cells, and of products of two."""
    moved, whole, _ = matrices
    first, second = torch.stack([moved, whole, moved]), torch.stack([moved, whole, whole])
    products = (first[..., :, None] * second[..., None, :]).flatten(-2)
    return filter_along_rows(matrices[:2]), filter_along_rows(products)
