"""Figure 2 of the paper as data: how consistent the explanations of single test images are, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gcc_search.analysis.bootstrap import Floats
from gcc_search.analysis.paired_images import PairedImages
from gcc_search.analysis.pairing import Pair

# Narrow enough for the paper's spread (a standard deviation of 0.13), wide enough for a few hundred images.
BIN_WIDTH = 0.04


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Consistency of one network's explanations on the test split, image by image.

    Args:
        sd: the sample's (n - 1); None for a single image.
        chance: mean consistency of the maps of two different images, the level that says nothing.
        density: share of the images in each bin, divided by the bin's width.
    """

    trial: str
    num_images: int
    mean: float
    sd: float | None
    chance: float
    density: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ConsistencyPanel:
    """A network on a data set: its baseline and its chosen trial over shared bins, `edges` from left to right."""

    data: str
    network: str
    edges: tuple[float, ...]
    baseline: Distribution
    trained: Distribution


def consistency_panels(
    chosen: Sequence[Pair], images: Mapping[str, PairedImages | None]
) -> tuple[ConsistencyPanel, ...]:
    """A panel per chosen trial whose images can be read. All panels have the same bins."""
    readable = {pair.trial.id: found for pair in chosen if (found := images[pair.trial.id]) is not None}
    edges = _edges([found.both("consistency") for found in readable.values()])
    return tuple(_panel(pair, readable[pair.trial.id], edges) for pair in chosen if pair.trial.id in readable)


def _edges(values: Sequence[Floats]) -> Floats:
    """Multiples of the bin's width, up to 1, from below the least value."""
    low = min((float(array.min()) for array in values if array.size), default=0.0)
    steps = int(np.ceil((1 - low) / BIN_WIDTH + 1e-9))
    return np.round(1 - BIN_WIDTH * np.arange(max(steps, 1), -1, -1), 10)


def _panel(pair: Pair, images: PairedImages, edges: Floats) -> ConsistencyPanel:
    consistency, chance = images.both("consistency"), images.both("chance")
    names = (pair.baseline.id, pair.trial.id)
    before, after = (_distribution(names[side], consistency[:, side], chance[:, side], edges) for side in (0, 1))
    return ConsistencyPanel(
        data=pair.trial.settings["data"]["name"],
        network=pair.trial.network,
        edges=tuple(edges.tolist()),
        baseline=before,
        trained=after,
    )


def _distribution(trial: str, consistency: Floats, chance: Floats, edges: Floats) -> Distribution:
    # SSIM is at most 1, but for the last bits of a float32.
    density, _ = np.histogram(np.clip(consistency, edges[0], edges[-1]), bins=edges, density=True)
    return Distribution(
        trial=trial,
        num_images=len(consistency),
        mean=float(consistency.mean()),
        sd=float(consistency.std(ddof=1)) if len(consistency) > 1 else None,
        chance=float(chance.mean()),
        density=tuple(density.tolist()),
    )
