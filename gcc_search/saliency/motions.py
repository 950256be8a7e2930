"""Rigid motions of square frames as values: an image is moved by them, and its heatmap is moved back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.shapes import Frames, Masks, PerImage, Shifts, SquareMaps, Turns

# In pixels: what rounding may do to a place on the border.
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Motions:
    """For each image a turn or mirroring about the centre, and a shift; float64, so that whole pixels stay whole.

    Places are (row, column) from the centre, in pixels: what the moved frame shows at place o, the frame has at
    turns @ o + shifts.
    """

    turns: Turns
    """Orthogonal matrices."""
    shifts: Shifts

    @classmethod
    def shifted(cls, down: PerImage, right: PerImage) -> Motions:
        """So many pixels down and to the right."""
        shifts = -torch.stack([down, right], 1).double()
        return cls(turns=_diagonal(1, 1, like=shifts), shifts=shifts)

    @classmethod
    def rotated(cls, degrees: PerImage) -> Motions:
        """Counter-clockwise, as a viewer sees it."""
        angles = degrees.double().deg2rad()
        turns = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], 1).view(-1, 2, 2)
        return cls(turns=turns, shifts=torch.zeros_like(turns[:, 0]))

    @classmethod
    def mirrored(cls, like: PerImage, *, rows: bool) -> Motions:
        """Upside down where `rows`, else left to right; as many as `like` has elements."""
        shifts = torch.zeros(len(like), 2, dtype=torch.float64, device=like.device)
        return cls(turns=_diagonal(-1, 1, like=shifts) if rows else _diagonal(1, -1, like=shifts), shifts=shifts)

    def apply(self, frames: Frames) -> Frames:
        """t(x): each pixel is the nearest one of the frame, 0 (black) where the frame has none."""
        side = frames.shape[-1]
        sources = (self.turns[:, None, None] @ _places(side, self.turns)[..., None])[..., 0]
        sources = (sources + self.shifts[:, None, None] + side / 2).floor().long()
        inside = ((sources >= 0) & (sources < side)).all(-1)
        rows, columns = sources.clamp(0, side - 1).unbind(-1)
        pixels = (rows * side + columns).flatten(1)[:, None].expand(-1, frames.shape[1], -1)
        return frames.flatten(2).gather(2, pixels).view_as(frames) * inside[:, None]

    def undo(self, heatmaps: SquareMaps) -> tuple[SquareMaps, Masks]:
        """Heatmaps of moved frames in the original frame, bilinear; and where there is something to see.

        That is at pixels which the motion left in the frame, whose values nothing beyond it is mixed into. Elsewhere
        heatmaps are 0.
        """
        side = heatmaps.shape[-1]
        from_shift = _places(side, self.turns) - self.shifts[:, None, None]
        # The inverse of an orthogonal matrix is its transpose.
        targets = (self.turns.mT[:, None, None] @ from_shift[..., None])[..., 0] + (side - 1) / 2
        inside = ((targets >= -_TOLERANCE) & (targets <= side - 1 + _TOLERANCE)).all(-1)
        grid = ((2 * targets + 1) / side - 1).flip(-1).to(heatmaps.dtype)
        back = functional.grid_sample(heatmaps[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
        return torch.where(inside, back, 0), inside


def _diagonal(row: int, column: int, *, like: Tensor) -> Tensor:
    turn = torch.eye(2, dtype=like.dtype, device=like.device)
    turn[0] *= row
    turn[1] *= column
    return turn.expand(len(like), 2, 2)


def _places(side: int, like: Tensor) -> Tensor:
    """Of a frame's pixels from its centre, (1, side, side, 2)."""
    steps = torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)[None]
