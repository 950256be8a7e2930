"""What the maps of both views of each image are worth, a column a measure; nothing here asks the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, move_heatmaps, moving_matrices, upsampling_matrix
from gcc_search.saliency.losses import is_degenerate, normalise, upsample
from gcc_search.saliency.raw_losses import explanation_terms
from gcc_search.saliency.resampling import Resampling, is_worthwhile, make_resampling
from gcc_search.saliency.scores import (
    gini_index,
    heatmap_norm,
    mass_half,
    pointing,
    raw_correlation,
    share_inside,
    share_kept,
)
from gcc_search.saliency.shapes import Heatmaps, PerImage, RawMaps, Regions
from gcc_search.saliency.ssim import structural_similarity


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What t of each image does to maps of its frame, which no network changes.

    Args:
        size: of heatmaps, in pixels.
        moving: of rows and of columns (`moving_matrices`).
        matrices: None where maps are compared by their heatmaps' pixels.
    """

    transforms: Transforms
    size: int
    moving: Tensor
    matrices: Resampling | None

    @classmethod
    def of(cls, transforms: Transforms, cells: int, size: int) -> Replay:
        """For float32 maps of `cells` x `cells`, by the way that is the faster."""
        is_faster = is_worthwhile(cells, size, transforms.boxes.device, in_windows=True)
        matrices = make_resampling(transforms, cells, size, torch.float32, in_windows=True) if is_faster else None
        moving = moving_matrices(transforms, cells, size)
        return cls(transforms=transforms, size=size, moving=moving, matrices=matrices)


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
        "crop_mass": share_kept(mass, replay.transforms),
        "correlation": raw_correlation(
            maps, moved_maps, replay.moving, upsampling_matrix(maps.shape[-1], replay.size, maps.device)
        ),
    }
    if regions is not None:
        share = regions.mean((1, 2))
        scores |= {
            "box_mass": share_inside(mass, regions),
            "pointing": pointing(full, regions),
            "box_share": torch.where(share > 0, share, torch.nan),
        }
    return scores | _similarities(full, maps, moved_maps, other_maps, replay)


def _of_heatmaps(heatmaps: Heatmaps) -> dict[str, PerImage]:
    return {
        "mass_half": mass_half(heatmaps),
        "norm_p0": heatmap_norm(heatmaps, 0),
        "norm_p1": heatmap_norm(heatmaps, 1),
        "norm_p2": heatmap_norm(heatmaps, 2),
    }


def _similarities(
    full: Heatmaps, maps: RawMaps, moved_maps: RawMaps, other_maps: RawMaps, replay: Replay
) -> dict[str, PerImage]:
    """SSIM of M(t(x)) and t(M(x)), and of M(t(x)) and t(M) of the other images."""
    if replay.matrices is not None:
        matrices = replay.matrices
        consistency, chance = (
            1 - explanation_terms(torch.cat([first, moved_maps]), matrices, p=None, size=replay.size)[0]
            for first in (maps, other_maps)
        )
    else:
        size, of_moved = replay.size, normalise(upsample(moved_maps, replay.size))
        consistency, chance = (
            structural_similarity(normalise(move_heatmaps(replay.transforms, first, size)), of_moved)
            for first in (full, upsample(other_maps, size))
        )
    return {"consistency": consistency, "chance": chance}
