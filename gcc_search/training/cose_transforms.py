"""COSE's thirteen transforms as values, each with its way back for a heatmap.

R. Daroya, A. Sun, S. Maji, "COSE: A Consistency-Sensitivity Metric for Saliency on Image Classification", ICCV 2023
workshops, arXiv 2309.10989. How strong they are is TrivialAugment's (S. Müller, F. Hutter, 2021), of which they are a
part: an amount is one of thirty equal steps up to a transform's reach, either way, and never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from gcc_search.saliency.motions import Motions
from gcc_search.saliency.shapes import Frames, Masks, PerImage, SquareMaps

NUM_STEPS = 30
# The published numbers are over six amounts of each transform that has one.
_DRAWN_IN_PAPER = 6
# Of a frame of 224.
_TRANSLATION = 32 / 224


@dataclass(frozen=True, kw_only=True)
class Geometric:
    """A transform that moves the heatmap along.

    Args:
        motions: of amounts, one an image, and the frames' side in pixels.
        reach: the greatest amount; 0 where it has none.
    """

    name: str
    motions: Callable[[PerImage, int], Motions]
    reach: float = 0.0

    def apply(self, frames: Frames, amounts: PerImage) -> Frames:
        return self.motions(amounts, frames.shape[-1]).apply(frames)

    def undo(self, heatmaps: SquareMaps, amounts: PerImage) -> tuple[SquareMaps, Masks]:
        """In the frame of the image as it was; and where there is something to see."""
        return self.motions(amounts, heatmaps.shape[-1]).undo(heatmaps)


@dataclass(frozen=True, kw_only=True)
class Photometric:
    """A transform that leaves the heatmap where it is.

    Args:
        alter: of a PIL image and an amount.
        reach: the greatest amount; 0 where it has none.
    """

    name: str
    alter: Callable[[Image.Image, float], Image.Image]
    reach: float = 0.0

    def apply(self, frames: Frames, amounts: PerImage) -> Frames:
        pictures = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames.permute(0, 2, 3, 1).numpy())
        altered = [self.alter(picture, amount) for picture, amount in zip(pictures, amounts.tolist(), strict=True)]
        return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in altered])

    def undo(self, heatmaps: SquareMaps, amounts: PerImage) -> tuple[SquareMaps, Masks]:
        """As they are, all of each valid."""
        return heatmaps, torch.ones_like(heatmaps, dtype=torch.bool)


CoseTransform = Geometric | Photometric


def _translation(amounts: PerImage, side: int) -> Tensor:
    """In whole pixels, towards 0, at least one; in 224 pixels 1 to 32. An amount is a share of the side."""
    # The share of a whole pixel may lie just below it.
    return amounts.sign() * (amounts.abs() * side + 1e-6).floor().clamp(min=1)


def _right(amounts: PerImage, side: int) -> Motions:
    right = _translation(amounts, side)
    return Motions.shifted(torch.zeros_like(right), right)


def _down(amounts: PerImage, side: int) -> Motions:
    down = _translation(amounts, side)
    return Motions.shifted(down, torch.zeros_like(down))


def _enhanced(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Callable[[Image.Image, float], Image.Image]:
    """By a factor of 1 + amount."""
    return lambda image, amount: enhancer(image).enhance(1 + amount)


TRANSFORMS: tuple[CoseTransform, ...] = (
    Geometric(name="translate x", reach=_TRANSLATION, motions=_right),
    Geometric(name="translate y", reach=_TRANSLATION, motions=_down),
    Geometric(name="rotate", reach=135.0, motions=lambda degrees, side: Motions.rotated(degrees)),
    Geometric(name="flip left-right", motions=lambda amounts, side: Motions.mirrored(amounts, rows=False)),
    Geometric(name="flip up-down", motions=lambda amounts, side: Motions.mirrored(amounts, rows=True)),
    Photometric(name="brightness", reach=0.99, alter=_enhanced(ImageEnhance.Brightness)),
    Photometric(name="colour", reach=0.99, alter=_enhanced(ImageEnhance.Color)),
    Photometric(name="contrast", reach=0.99, alter=_enhanced(ImageEnhance.Contrast)),
    Photometric(name="sharpness", reach=0.99, alter=_enhanced(ImageEnhance.Sharpness)),
    Photometric(name="auto-contrast", alter=lambda image, amount: ImageOps.autocontrast(image)),
    Photometric(name="equalise", alter=lambda image, amount: ImageOps.equalize(image)),
    Photometric(name="blur", alter=lambda image, amount: image.filter(ImageFilter.BLUR)),
    Photometric(name="smooth", alter=lambda image, amount: image.filter(ImageFilter.SMOOTH)),
)


def weight_of(transform: CoseTransform) -> int:
    """What a pair of this transform counts for in means over all: 6 where it has an amount, else 1.

    One amount an image stands for the six that the published numbers are over, at a sixth of the time.
    """
    return _DRAWN_IN_PAPER if transform.reach else 1


def draw_amounts(seeds: Sequence[int]) -> Tensor:
    """An amount of each transform for each seed, (seeds, 13), float64; 0 for those that have none.

    Shares of the side to the right or down (translations), degrees counter-clockwise, or what is added to a factor of 1
    (brightness, colour, contrast, sharpness).
    """
    reaches = torch.tensor([transform.reach for transform in TRANSFORMS], dtype=torch.float64)
    return torch.stack([_draw_steps(seed) for seed in seeds]) * reaches


def _draw_steps(seed: int) -> Tensor:
    """Of the reach: -1 to 1 in sixtieths of that, without 0."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(2 * NUM_STEPS, (len(TRANSFORMS),), generator=generator)
    steps = draws % NUM_STEPS + 1
    return torch.where(draws < NUM_STEPS, steps, -steps).double() / NUM_STEPS
