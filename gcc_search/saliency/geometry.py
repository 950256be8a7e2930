"""The transform t as a value: drawn once, applied to an image and replayed on its heatmap.

Boxes are fractions of the source frame, so that one box fits the photograph, a copy of it squashed to a square, and its
heatmap.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.products import between
from gcc_search.saliency.shapes import (
    Boxes,
    Claims,
    Heatmaps,
    Images,
    Lengths,
    RawMaps,
    SizedHeatmaps,
    SizedImages,
)

_ATTEMPTS = 10
"""How often torchvision's RandomResizedCrop tries before it takes the centre."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transforms:
    """One crop and perhaps a flip for each image of a batch. Boxes are float64, so that whole pixels stay whole."""

    boxes: Boxes
    flips: Claims

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Transforms:
        """The same transforms on `device`."""
        # Towards a GPU the host needs not wait: it may go on once what it sends was copied elsewhere.
        onwards = torch.device(device).type == "cuda"
        return Transforms(
            boxes=self.boxes.to(device, non_blocking=onwards), flips=self.flips.to(device, non_blocking=onwards)
        )

    def select(self, indices: Tensor | slice | Sequence[int]) -> Transforms:
        """The transforms at `indices`, in that order."""
        return Transforms(boxes=self.boxes[indices], flips=self.flips[indices])

    @classmethod
    def identity(cls, count: int) -> Transforms:
        """`count` whole frames, unflipped."""
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64).repeat(count, 1)
        return cls(boxes=boxes, flips=torch.zeros(count, dtype=torch.bool))

    @classmethod
    def center_crop(cls, heights: Lengths, widths: Lengths, *, fraction: float) -> Transforms:
        """Centred squares in the geometry of the photographs, of side `fraction` times the shorter side, unflipped."""
        sides = torch.stack([heights, widths], 1).double()
        extents = fraction * sides.amin(1, keepdim=True) / sides
        boxes = torch.cat([(1 - extents) / 2, extents], 1)
        return cls(boxes=boxes, flips=torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device))


def draw_transforms(
    heights: Lengths,
    widths: Lengths,
    *,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip_probability: float = 0.5,
    generator: torch.Generator | Sequence[torch.Generator],
) -> Transforms:
    """A random resized crop and a random flip for each frame of `heights` x `widths` pixels.

    The distribution is that of torchvision's `RandomResizedCrop.get_params`: whole-pixel boxes; the first of ten
    attempts that fits; the largest centred box within `ratio` where none does. What an image gets depends only on the
    generator's state and on the image's position and size: 23 numbers are drawn for each, whatever becomes of them.

    Args:
        scale: least and greatest area of the crop, as shares of the frame.
        ratio: least and greatest width over height, in pixels of the frame; log-uniform in between.
        generator: one for all, or one for each frame: a single frame gets from it what it gets here.
    """
    draws = _draw_uniform(len(heights), generator).to(heights.device)
    frames = torch.stack([heights, widths], 1).double()
    areas = frames.prod(1, keepdim=True) * _uniform(draws[:, :_ATTEMPTS], scale[0], scale[1])
    low, high = torch.tensor(ratio, dtype=torch.float64).log().tolist()
    aspects = _uniform(draws[:, _ATTEMPTS : 2 * _ATTEMPTS], low, high).exp()
    attempts = torch.stack([(areas / aspects).sqrt(), (areas * aspects).sqrt()], 2).round()
    fits = ((attempts > 0) & (attempts <= frames[:, None])).all(2)
    # argmax of a 0/1 row is not promised to be the first 1; of these descending numbers it is.
    first = (fits * torch.arange(_ATTEMPTS, 0, -1, device=fits.device)).argmax(1)
    extents = attempts[torch.arange(len(frames), device=first.device), first]
    corners = (draws[:, 2 * _ATTEMPTS : -1] * (frames - extents + 1)).floor()
    fallback = _central_extents(frames, ratio)
    fitted = fits.any(1, keepdim=True)
    extents = torch.where(fitted, extents, fallback)
    corners = torch.where(fitted, corners, ((frames - fallback) / 2).floor())
    boxes = torch.cat([corners / frames, extents / frames], 1)
    return Transforms(boxes=boxes, flips=draws[:, -1] < flip_probability)


def apply_transforms(transforms: Transforms, images: Images, size: int) -> SizedImages:
    """Each image cropped, resized to `size` x `size` and flipped; differentiable in `images`.

    Bilinear, align_corners False, no antialiasing. Samples never reach beyond the centres of the crop's outermost
    pixels, so that on whole-pixel boxes this is torchvision's `resized_crop(antialias=False)`, then `hflip`. The
    transforms may stay on the CPU while the images do not.
    """
    return sample(images, sample_positions(transforms, images.shape[2], images.shape[3], size))


def sample(images: Images, positions: Tensor) -> Tensor:
    """`apply_transforms` of what has these `sample_positions`."""
    rows, columns = positions.to(images.device, torch.promote_types(images.dtype, torch.float32)).unbind()
    # Pairs are complex numbers: written once, in one piece. Put together by `stack`, they take four times as long.
    grid = torch.view_as_real(torch.complex(columns[:, None, :], rows[:, :, None])).to(images.dtype)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def move_heatmaps(transforms: Transforms, heatmaps: Heatmaps, size: int) -> SizedHeatmaps:
    """t(M): the transforms of the images, replayed on heatmaps of the same frames; differentiable."""
    return apply_transforms(transforms, heatmaps[:, None], size)[:, 0]


def move_maps(transforms: Transforms, maps: RawMaps, size: int) -> SizedHeatmaps:
    """t(M) straight from raw maps: `move_heatmaps` of `losses.upsample`, up to rounding; differentiable.

    Both are linear and separable, so each map stands between two matrices of `size` rows. On a GPU the backward pass of
    `interpolate`, where many pixels add to few cells one after the other, takes a fifth of a step of ResNet18.
    """
    positions = sample_positions(transforms, size, size, size)
    rows, columns = (
        _share_of_cells(position, cells, size).to(maps)
        for position, cells in zip(positions, maps.shape[1:], strict=True)
    )
    return between(rows, maps, columns)


def moving_matrices(transforms: Transforms, cells: int, size: int) -> Tensor:
    """The two matrices of `move_maps` for square maps, (2, B, size, cells), float64.

    What each row of cells adds to each row of pixels, and the same of columns. A pixel's weights sum to 1.
    """
    return _share_of_cells(sample_positions(transforms, size, size, size), cells, size)


def crop_shares(transforms: Transforms, size: int) -> Tensor:
    """Share of each of `size` rows, then columns, of a frame that lies inside the crop, (2, B, size), float64."""
    starts, extents = size * transforms.boxes[:, :2], size * transforms.boxes[:, 2:]
    pixels = torch.arange(size, device=starts.device)
    ends = (starts + extents)[:, :, None].minimum(pixels + 1)
    return (ends - starts[:, :, None].maximum(pixels)).clamp(min=0).transpose(0, 1)


def _draw_uniform(count: int, generator: torch.Generator | Sequence[torch.Generator]) -> Tensor:
    if isinstance(generator, torch.Generator):
        draws = torch.empty(count, 2 * _ATTEMPTS + 3, dtype=torch.float64, device=generator.device)
        return draws.uniform_(generator=generator)
    return torch.cat([_draw_uniform(1, own) for own in generator])


def _uniform(draws: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draws


def _central_extents(frames: Tensor, ratio: tuple[float, float]) -> Tensor:
    """Height and width of the largest centred box whose aspect is within `ratio` (torchvision's last resort)."""
    heights, widths = frames.unbind(1)
    allowed_heights = torch.where(widths / heights < min(ratio), (widths / min(ratio)).round(), heights)
    allowed_widths = torch.where(widths / heights > max(ratio), (heights * max(ratio)).round(), widths)
    return torch.stack([allowed_heights, allowed_widths], 1)


def sample_positions(transforms: Transforms, height: int, width: int, size: int) -> Tensor:
    """Rows, then columns, of the output's pixels in a frame with edges at -1 and 1; (2, B, size), float64."""
    starts, extents = transforms.boxes[:, :2], transforms.boxes[:, 2:]
    # From the crop's centre outwards, in units of the crop: a sample stays half a source pixel inside its edges.
    offsets = (torch.arange(size, dtype=torch.float64, device=extents.device) + 0.5) / size - 0.5
    # Numbers, not a tensor of them, which would have to travel to the device.
    pixels = torch.stack([extents[:, 0] * height, extents[:, 1] * width], 1)
    reach = (0.5 - 0.5 / pixels).clamp(min=0)[:, :, None]
    offsets = torch.minimum(torch.maximum(offsets, -reach), reach)
    positions = 2 * (starts[:, :, None] + extents[:, :, None] * (0.5 + offsets)) - 1
    rows, columns = positions.unbind(1)
    return torch.stack([rows, torch.where(transforms.flips[:, None], columns.flip(1), columns)])


def _share_of_cells(positions: Tensor, cells: int, size: int) -> Tensor:
    """What each of `cells`, brought to `size`, adds to the values at `positions` (..., P); (..., P, cells)."""
    pixels = (((positions + 1) * size - 1) / 2).clamp(0, size - 1)
    before = pixels.floor()
    after_share = (pixels - before)[..., None]
    spread = upsampling_matrix(cells, size, positions.device)
    after = (before + 1).clamp(max=size - 1)
    shares = (1 - after_share) * spread[before.long()] + after_share * spread[after.long()]
    # A share that is rounding would make a map of an empty place something to be stretched.
    return functional.hardshrink(shares, 1e-12)


@functools.cache
def upsampling_matrix(cells: int, size: int, device: torch.device, dtype: torch.dtype = torch.float64) -> Tensor:
    """What each cell adds to each of `size` pixels, (size, cells): bilinear, align_corners False."""
    one_each = torch.eye(cells, dtype=torch.float64)[None]
    whole = functional.interpolate(one_each, size, mode="linear", align_corners=False)[0].T.contiguous()
    return whole.to(device, dtype)
