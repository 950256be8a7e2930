"""From a kept map to a picture of it, in numpy: the heatmap on which consistency is measured, laid over the image."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import Floats

Pixels = NDArray[np.uint8]
"""(height, width, 3)."""

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


def overlay(picture: Pixels, heat: Floats) -> Pixels:
    """The greyed picture under the heatmap's colours; both of one size."""
    grey = picture @ np.array([0.299, 0.587, 0.114])
    coloured = colormaps[COLOURS](heat)[..., :3] * 255
    mixed: Pixels = np.clip(((1 - OPACITY) * grey[..., None] + OPACITY * coloured).round(), 0, 255).astype(np.uint8)
    return mixed
