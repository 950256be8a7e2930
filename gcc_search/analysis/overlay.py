"""From a kept map to a picture of it, in numpy: the heatmap on which consistency is measured, laid over the image."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import Floats

Pixels = NDArray[np.uint8]
"""(height, width, 3)."""
Image = TypeVar("Image", Floats, Pixels)

COLOURS = "inferno"
"""Dark is 0, bright is 1; told apart under every kind of colour blindness, and in grey."""
OPACITY = 0.6


def upsample_map(raw: Floats, size: int) -> Floats:
    """A (rows, columns) map at size x size: bilinear, align_corners False, as `saliency.losses.upsample`."""
    rows, columns = (_weights(cells, size) for cells in raw.shape)
    full: Floats = rows @ raw @ columns.T
    return full


def _weights(cells: int, size: int) -> Floats:
    """(size, cells): how much of each cell every pixel takes."""
    places = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
    weights: Floats = np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0.0)
    return weights


def heatmap(raw: Floats, size: int) -> Floats:
    """N(U(M)): the map at size x size, scaled to [0, 1]; all 0 where the map is constant."""
    full = upsample_map(raw, size)
    low, high = float(full.min()), float(full.max())
    rounding = 1e-6 * max(abs(low), abs(high))
    return np.zeros_like(full) if high - low <= rounding else (full - low) / (high - low)


def move(image: Image, crop: Floats, flipped: bool) -> Image:
    """t of a square image or heatmap, (size, size) or (size, size, 3), at its own size, by its nearest pixels.

    Args:
        crop: top, left, height, width as shares of the frame.
    """
    size = len(image)
    centres = (np.arange(size) + 0.5) / size
    rows, columns = (
        np.clip(((start + extent * centres) * size).astype(int), 0, size - 1)
        for start, extent in zip(crop[:2], crop[2:], strict=True)
    )
    moved: Image = image[rows][:, columns[::-1] if flipped else columns]
    return moved


def overlay(picture: Pixels, heat: Floats) -> Pixels:
    """The greyed picture under the heatmap's colours; both of one size."""
    grey = picture @ np.array([0.299, 0.587, 0.114])
    coloured = colormaps[COLOURS](heat)[..., :3] * 255
    mixed: Pixels = np.clip(((1 - OPACITY) * grey[..., None] + OPACITY * coloured).round(), 0, 255).astype(np.uint8)
    return mixed
