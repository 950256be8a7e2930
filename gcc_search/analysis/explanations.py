"""Images with the heatmaps of several networks, as plain values: all that `gcc-search explain` draws."""

from __future__ import annotations

from dataclasses import dataclass

from gcc_search.analysis.bootstrap import Floats
from gcc_search.analysis.overlay import Pixels

# Rows of panels in one figure, some 1.9 inches each: more is a poster that no viewer opens.
MAX_ROWS = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one network makes of one image. Heatmaps: (size, size) in [0, 1], of the class predicted on x.

    Args:
        predicted: name of that class; confidence: its softmax probability.
        heat, moved_heat, heat_of_moved: M(x), t(M(x)), M(t(x)).
        consistency: SSIM of the last two, -1 to 1.
        others: M(x) by each of the explanations's methods, clipped at 0.
    """

    network: str
    predicted: str
    confidence: float
    heat: Floats
    moved_heat: Floats
    heat_of_moved: Floats
    consistency: float
    others: tuple[Floats, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One image, and a view of each network.

    Args:
        label: name of the true class; None where nobody knows.
        picture, moved_picture: x and t(x) as the networks see them, (size, size, 3).
        crop: t's crop of x: top, left, height, width as shares of the frame. mirrored: t flips after cropping.
    """

    name: str
    label: str | None
    picture: Pixels
    moved_picture: Pixels
    crop: tuple[float, float, float, float]
    mirrored: bool
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanations:
    """Blocks whose views are of the same networks, in the same order. `methods`: names of the other heatmaps."""

    blocks: tuple[Block, ...]
    methods: tuple[str, ...] = ()


def num_shown(asked: int, *, networks: int) -> int:
    """How many of the images asked for one figure holds, at least one."""
    return min(asked, max(1, MAX_ROWS // networks))
