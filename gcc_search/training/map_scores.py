"""What the maps of both views of each image are worth, a column a measure; nothing here asks the network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gcc_search.saliency.geometry import Transforms, move_heatmaps
from gcc_search.saliency.losses import is_degenerate, normalise, upsample
from gcc_search.saliency.raw_losses import explanation_terms
from gcc_search.saliency.resampling import Resampling, is_worthwhile, make_resamplings
from gcc_search.saliency.scores import crop_mass, gini_index, heatmap_norm, mass_half, pointing, region_mass
from gcc_search.saliency.shapes import Heatmaps, PerImage, RawMaps, Regions
from gcc_search.saliency.ssim import pearson_correlation, structural_similarity


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What t of each image does to maps of its frame, which no network changes.

    Args:
        size: of heatmaps, in pixels.
        windows, correlating: by which cells alone tell similarity and correlation; None where it takes pixels.
    """

    transforms: Transforms
    size: int
    windows: Resampling | None
    correlating: Resampling | None

    @classmethod
    def of(cls, transforms: Transforms, cells: int, size: int, *, is_correlating: bool = True) -> Replay:
        """For float32 maps of `cells` x `cells`, by the way that is the faster; not for correlation, unless asked."""
        device, asked = transforms.boxes.device, (True, False) if is_correlating else (True,)
        ways = [way for way in asked if is_worthwhile(cells, size, device, in_windows=way)]
        made = dict(zip(ways, make_resamplings(transforms, cells, size, torch.float32, in_windows=ways), strict=True))
        return cls(transforms=transforms, size=size, windows=made.get(True), correlating=made.get(False))


def map_scores(
    maps: RawMaps, moved_maps: RawMaps, other_maps: RawMaps, replay: Replay, regions: Regions | None
) -> dict[str, PerImage]:
    """Measures of M(x), and of how it agrees with M(t(x)).

    Args:
        other_maps: M of another image each, for chance.
        regions: box or mask of each image, at the heatmaps' size; None where no image has one.
    """
    full = upsample(maps, replay.size)
    mass = full.relu()
    scores = _of_heatmaps(normalise(full)) | {
        "gini": gini_index(maps),
        "degenerate": is_degenerate(maps),
        "crop_mass": crop_mass(mass, replay.transforms),
    }
    if regions is not None:
        share = regions.mean((1, 2))
        scores |= {
            "box_mass": region_mass(mass, regions),
            "pointing": pointing(full, regions),
            "box_share": torch.where(share > 0, share, torch.nan),
        }
    return scores | _agreement(maps, moved_maps, other_maps, replay)


def _of_heatmaps(heatmaps: Heatmaps) -> dict[str, PerImage]:
    return {
        "mass_half": mass_half(heatmaps),
        "norm_p0": heatmap_norm(heatmaps, 0),
        "norm_p1": heatmap_norm(heatmaps, 1),
        "norm_p2": heatmap_norm(heatmaps, 2),
    }


def _agreement(maps: RawMaps, moved_maps: RawMaps, other_maps: RawMaps, replay: Replay) -> dict[str, PerImage]:
    """Of M(t(x)) with t(M(x)), and for chance with t(M) of the other images."""
    compare = _comparing_with(moved_maps, replay)
    return {
        "consistency": compare(maps, replay.windows, structural_similarity),
        "chance": compare(other_maps, replay.windows, structural_similarity),
        "correlation": compare(maps, replay.correlating, pearson_correlation),
    }


def similarity(maps: RawMaps, moved_maps: RawMaps, replay: Replay) -> PerImage:
    """SSIM of t(M(x)) and M(t(x))."""
    return _comparing_with(moved_maps, replay)(maps, replay.windows, structural_similarity)


def _comparing_with(
    moved_maps: RawMaps, replay: Replay
) -> Callable[[RawMaps, Resampling | None, Callable[..., PerImage]], PerImage]:
    size = replay.size
    of_moved = functools.cache(lambda: normalise(upsample(moved_maps, size)))

    def compare(first: RawMaps, matrices: Resampling | None, by_pixels: Callable[..., PerImage]) -> PerImage:
        if matrices is not None:
            return 1 - explanation_terms(torch.cat([first, moved_maps]), matrices, p=None, size=size)[0]
        return by_pixels(normalise(move_heatmaps(replay.transforms, upsample(first, size), size)), of_moved())

    return compare
