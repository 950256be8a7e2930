"""One split of a data set: memory-mapped images, their labels, and boxes or masks where they exist."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

Indices = Int64[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """One split. Position i of every field but `images` and `masks` is the split's image i."""

    images: UInt8[Tensor, "cached 3 side side"]
    """RGB of every image of the data set's cache, on its read-only memory map: copy before writing."""
    rows: Int64[Tensor, " n"]
    """Which of `images` belong to this split."""
    labels: Int64[Tensor, " n"]
    heights: Int64[Tensor, " n"]
    """Of the original, in pixels; widths alike."""
    widths: Int64[Tensor, " n"]
    names: tuple[str, ...]
    """Path relative to the data set's folder, or `shapes/000123`."""
    boxes: Float32[Tensor, "n 4"]
    """Top, left, height, width of the object as fractions of the whole image; NaN where none is known."""
    masks: UInt8[Tensor, "cached side side"] | None = None
    """255 on the object, for the rows of `images`; None where the data set has none."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_regions(self) -> bool:
        """Whether any image has a box or a mask."""
        return self.masks is not None or not bool(self.boxes.isnan().all())

    def pixels(self, indices: Indices, *, pinned: bool = False) -> UInt8[Tensor, "batch 3 side side"]:
        """A contiguous copy of the images at these positions of the split, on the CPU.

        Args:
            pinned: in memory that a GPU reads by itself.
        """
        return _gather(self.images, self.rows[indices], pinned=pinned)

    def regions(
        self, indices: Indices, size: int, device: torch.device | str = "cpu"
    ) -> Float32[Tensor, "batch {size} {size}"]:
        """Share of each cell of a grid over the whole image that the object, its mask or box, covers; in [0, 1].

        All zero where neither is known.
        """
        device = torch.device(device)
        if self.masks is not None:
            masks = _gather(self.masks, self.rows[indices], pinned=device.type == "cuda")
            shares = masks.to(device, non_blocking=True).float() / 255
            coarse: Tensor = functional.interpolate(shares[:, None], size=(size, size), mode="area")
            return coarse[:, 0]
        top, left, height, width = self.boxes[indices].to(device, non_blocking=True).nan_to_num(0).unbind(1)
        return _covered(top, height, size)[:, :, None] * _covered(left, width, size)[:, None, :]

    def subset(self, indices: Indices) -> ImageSet:
        """The images at these positions of the split, in this order."""
        return replace(
            self,
            rows=self.rows[indices],
            labels=self.labels[indices],
            heights=self.heights[indices],
            widths=self.widths[indices],
            names=tuple(self.names[index] for index in indices.tolist()),
            boxes=self.boxes[indices],
        )


def _gather(stored: Tensor, rows: Tensor, *, pinned: bool) -> Tensor:
    # Torch would split each image over threads and wait for them all, 4 to 70 times slower (2 cores, idle to busy).
    gathered = torch.empty(len(rows), *stored.shape[1:], dtype=stored.dtype, pin_memory=pinned)
    # `clip` by its side effect: numpy writes straight to `out`. No row is beyond the last.
    np.take(stored.numpy(), rows.numpy(), axis=0, out=gathered.numpy(), mode="clip")
    return gathered


def _covered(
    start: Float32[Tensor, " batch"], length: Float32[Tensor, " batch"], cells: int
) -> Float32[Tensor, "batch cells"]:
    """Share of each of `cells` equal parts of [0, 1] that [start, start + length] covers."""
    edges = torch.linspace(0, 1, cells + 1, device=start.device)
    overlap = torch.minimum((start + length)[:, None], edges[1:]) - torch.maximum(start[:, None], edges[:-1])
    return (overlap * cells).clamp(0, 1)
