"""Colour and sharpness as a value: drawn once, applied to an image. Its heatmap stays where it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.products import between
from gcc_search.saliency.shapes import Images, PerImage, Photometries

# SimCLR (Chen et al., 2020, appendix A): its colour jitter at strength 1, then a blur of every other image.
_FACTORS = 0.8
_HUE = 0.2
_BLURRED = 0.5
# In pixels of its images, which have 224 on a side.
_SIGMAS = (0.1, 2.0)
_SIDE = 224
# So small, in pixels, that no neighbour counts: exp(-1 / (2 sigma^2)) is 0.
_SHARP = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Photometry:
    """New colours and perhaps a blur for each image of a batch.

    Args:
        values: factors of brightness, contrast and saturation, where 1 changes nothing; a shift of the hue in turns;
            sigma of a Gaussian blur as a share of the image's side, 0 for none.
    """

    values: Photometries

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: torch.device | str) -> Photometry:
        """The same on `device`."""
        # As with `Transforms.to`: the host needs not wait.
        return Photometry(values=self.values.to(device, non_blocking=torch.device(device).type == "cuda"))

    def select(self, indices: Tensor | slice | Sequence[int]) -> Photometry:
        """Those at `indices`, in that order."""
        return Photometry(values=self.values[indices])

    @classmethod
    def identity(cls, count: int) -> Photometry:
        """Leaves `count` images as they are."""
        return cls(values=torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]).repeat(count, 1))


def draw_photometry(count: int, *, strength: float, generator: torch.Generator) -> Photometry:
    """SimCLR's colour jitter and blur for each of `count` images, float32.

    Each image is jittered, where SimCLR does so to four in five and turns one in five grey.

    Factors of brightness, contrast and saturation are uniform in 1 +- 0.8 `strength`, the hue's shift in
    +- 0.2 `strength` turns. Whatever the strength, every other image is blurred, with a sigma that is uniform in 0.1
    to 2 pixels of 224. Six numbers are drawn for each image, whatever becomes of them.

    Args:
        strength: in (0, 1].
    """
    draws = torch.empty(count, 6, dtype=torch.float64, device=generator.device).uniform_(generator=generator)
    around = strength * (2 * draws[:, :4] - 1)
    least, most = _SIGMAS
    sigmas = (least + (most - least) * draws[:, 4:5]) / _SIDE
    blurs = torch.where(draws[:, 5:] < _BLURRED, sigmas, 0.0)
    values = torch.cat([1 + _FACTORS * around[:, :3], _HUE * around[:, 3:], blurs], 1)
    return Photometry(values=values.float())


def apply_photometry(photometry: Photometry, images: Images) -> Images:
    """Square RGB images in [0, 1], each in its new colours, then blurred; in [0, 1] again.

    Brightness, contrast (about the mean grey), saturation (about grey) and hue, one after the other and cut to [0, 1]
    after each, as torchvision's `adjust_*` and PIL have them; SimCLR draws their order as well. (kornia's plain
    `adjust_brightness` adds, and its `adjust_contrast` multiplies.) The blur is torchvision's `gaussian_blur`, of whose
    kernel nothing is cut off. No value comes to the host: a CUDA graph can hold it.
    """
    # A tenth of a second, which who trains without it does not wait for.
    from kornia.enhance import (
        adjust_brightness_accumulative,
        adjust_contrast_with_mean_subtraction,
        adjust_hue,
        adjust_saturation_with_gray_subtraction,
    )

    brightness, contrast, saturation, turns, blurs = photometry.values.to(images.dtype).unbind(1)
    images = adjust_brightness_accumulative(images, brightness)
    images = adjust_contrast_with_mean_subtraction(images, contrast)
    images = adjust_saturation_with_gray_subtraction(images, saturation)
    images = adjust_hue(images, 2 * math.pi * turns)
    side = images.shape[-1]
    weights = _blurring(blurs * side, side)[:, None]
    return between(weights, images, weights).clamp(0, 1)


def _blurring(sigmas: PerImage, side: int) -> Tensor:
    """What each pixel of a row adds to each of the blurred row, (B, side, side); with a sigma of 0, to its own alone.

    Pixels beyond the border are those as far on this side of it; the border's own is not repeated.
    """
    pixels = torch.arange(side, dtype=sigmas.dtype, device=sigmas.device)
    scales = -0.5 / sigmas.clamp(min=_SHARP)[:, None, None] ** 2
    apart, before = pixels[:, None] - pixels, pixels[:, None] + pixels
    weights = torch.exp(scales * apart**2)
    # The border's own pixels have no mirror image.
    weights = weights + (pixels > 0) * torch.exp(scales * before**2)
    weights = weights + (pixels < side - 1) * torch.exp(scales * (2 * (side - 1) - before) ** 2)
    return weights / weights.sum(2, keepdim=True)
