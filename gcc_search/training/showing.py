"""What a step is shown, made on the device of stored pixels: x and the maps' matrices. On CUDA as one graph."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, apply_transforms
from gcc_search.saliency.photometry import Photometry
from gcc_search.saliency.resampling import Resampling
from gcc_search.saliency.shapes import Classes, Images
from gcc_search.settings import Explanation
from gcc_search.training.graphed import Graphed
from gcc_search.training.image_set import Indices
from gcc_search.training.normalisation import CHANNEL_MEAN, CHANNEL_STD
from gcc_search.training.prefetch import stream_beside
from gcc_search.training.steps import Shown
from gcc_search.training.terms import matrices_for

Pixels = UInt8[Tensor, "batch 3 side side"]


def prepare(pixels: Tensor, device: torch.device) -> Images:
    """uint8 (B, 3, H, W) -> float32 on `device`, normalised as ImageNet weights expect."""
    shift, per_unit = _channel_scales(device)
    # In one pass, which writes them as convolutions read them: step by step it takes four times as long on a GPU.
    images = torch.empty(pixels.shape, dtype=torch.float32, device=device, memory_format=torch.channels_last)
    return torch.addcmul(shift, pixels.to(device, non_blocking=True), per_unit, out=images)


@functools.cache
def _channel_scales(device: torch.device) -> tuple[Tensor, Tensor]:
    """What a pixel of 0 becomes in each channel, and what a unit of a pixel is worth."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (CHANNEL_MEAN, CHANNEL_STD))
    return (-mean / std).float().to(device), (1 / (255 * std)).float().to(device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Images of a batch and what was drawn for them: crops of the stored images, transforms of the second views.

    All but the images' positions in their split is on the device.

    Args:
        photometry: of the second views; None where none is asked for.
    """

    indices: Indices
    labels: Classes
    crop: Transforms
    moved: Transforms
    photometry: Photometry | None


@dataclass(frozen=True, kw_only=True)
class Showing:
    """How pixels and what was drawn become what a step is shown.

    Args:
        cells: of a map on a side.
        size: of x on a side, in pixels.
    """

    explanation: Explanation
    cells: int
    size: int

    def __call__(self, pixels: Pixels, drawn: Drawn) -> Shown:
        made = self.tensors(pixels, drawn.crop, drawn.moved)
        return _shown(made, drawn)

    def tensors(self, pixels: Pixels, crop: Transforms, moved: Transforms) -> list[Tensor]:
        """x, then the matrices' tensors, if there are matrices."""
        x = apply_transforms(crop, prepare(pixels, crop.boxes.device), self.size)
        matrices = matrices_for(self.explanation, moved, self.cells, self.size)
        return [x] if matrices is None else [x, *matrices.tensors()]


class ReplayedShowing:
    """A `Showing` on batches of `count` as one CUDA graph: its small kernels cost the thread that prepares no time.

    To be made while nobody prepares: it is captured in the stream of who does.

    Args:
        side: of the stored images, in pixels.
    """

    def __init__(self, showing: Showing, *, count: int, side: int, device: torch.device) -> None:
        self.count = count

        def make(
            pixels: Tensor, boxes: Tensor, flips: Tensor, moved_boxes: Tensor, moved_flips: Tensor
        ) -> list[Tensor]:
            crop, moved = Transforms(boxes=boxes, flips=flips), Transforms(boxes=moved_boxes, flips=moved_flips)
            return showing.tensors(pixels, crop, moved)

        with torch.cuda.stream(stream_beside(device)):
            pixels = torch.zeros(count, 3, side, side, dtype=torch.uint8, device=device)
            whole = Transforms.identity(count).to(device)
            example = [pixels, whole.boxes, whole.flips, whole.boxes, whole.flips]
            self._made = Graphed(make, example, written=(), owners=(), draws=False)

    def __call__(self, pixels: Pixels, drawn: Drawn) -> Shown:
        crop, moved = drawn.crop, drawn.moved
        made = self._made(pixels, crop.boxes, crop.flips, moved.boxes, moved.flips)
        # The next batch is made while a step is still at this one.
        return _shown([tensor.clone() for tensor in made], drawn)


def _shown(made: list[Tensor], drawn: Drawn) -> Shown:
    x, *matrices = made
    return Shown(
        x=x,
        labels=drawn.labels,
        moved=drawn.moved,
        photometry=drawn.photometry,
        matrices=Resampling.of_tensors(*matrices) if matrices else None,
    )
