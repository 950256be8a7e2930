"""Per-image measures of a network, in eval mode, on transforms that are equal for all networks: differences pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, apply_transforms, move_heatmaps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import is_degenerate, normalise, upsample
from gcc_search.saliency.scores import (
    corrected_consistency,
    crop_mass,
    draw_tie_orders,
    gini_index,
    heatmap_norm,
    insertion_deletion,
    mass_half,
    pointing,
    region_mass,
)
from gcc_search.saliency.shapes import Heatmaps, Images, RawMaps
from gcc_search.saliency.ssim import pearson_correlation, structural_similarity
from gcc_search.seeding import derive_seed
from gcc_search.training.datasets import ImageSet
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.networks import Network, full_precision
from gcc_search.training.prefetch import prepared
from gcc_search.training.terms import precision

# 29 insertion and 29 deletion states share one, the whole image.
INSERTION_PASSES = 57

# One column of per-image measures; NaN where an image has none.
Columns = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What one pass over the images gives: predictions, and the maps of both views for the first view's class."""

    predicted: Tensor
    confidence: Tensor
    maps: RawMaps
    moved_maps: RawMaps
    transforms: Transforms

    def heatmaps(self, rows: Tensor | slice, size: int) -> tuple[Heatmaps, Heatmaps, Heatmaps]:
        """M(x), t(M(x)) and M(t(x)) of the images at `rows`, at size x size, in [0, 1]."""
        full = upsample(self.maps[rows], size)
        moved = move_heatmaps(self.transforms.select(rows), full, size)
        return normalise(full), normalise(moved), normalise(upsample(self.moved_maps[rows], size))


@torch.no_grad()
def measure(
    network: Network,
    images: ImageSet,
    evaluation: Evaluation,
    *,
    on_step: Callable[[int, int], None] | None = None,
) -> Columns:
    """Every per-image measure of METHOD 5, one float64 or integer tensor of len(images) a column, on the CPU.

    Args:
        on_step: called with (forward passes done, in all), in images.
    """
    count = len(images)
    inserted = min(evaluation.insertion_images, count)
    progress = _Progress(on_step, total=2 * count + INSERTION_PASSES * inserted)
    explained = explain(network, images, evaluation, progress=progress)
    columns = {
        "index": torch.arange(count),
        "label": images.labels,
        "predicted": explained.predicted.cpu(),
        "confidence": explained.confidence.double().cpu(),
        "correct": explained.predicted.cpu() == images.labels,
    }
    columns |= _map_columns(images, explained, evaluation)
    columns |= _insertion_columns(network, images, explained, evaluation, progress)
    return columns


class _Progress:
    def __init__(self, on_step: Callable[[int, int], None] | None, *, total: int) -> None:
        self._on_step, self._total, self._done = on_step, total, 0

    def add(self, count: int) -> None:
        self._done += count
        if self._on_step:
            self._on_step(self._done, self._total)


@torch.no_grad()
def explain(
    network: Network,
    images: ImageSet,
    evaluation: Evaluation,
    *,
    chosen: Tensor | None = None,
    progress: _Progress | None = None,
) -> Explained:
    """Predictions and signed maps of every image and of its transformed copy; one forward pass for both.

    Args:
        chosen: positions in `images`, where not all are wanted; each image keeps its transform.
    """
    network.eval()
    chosen = torch.arange(len(images)) if chosen is None else chosen
    transforms = evaluation.transforms(len(images)).select(chosen.to(evaluation.device))
    parts: list[tuple[Tensor, ...]] = []

    def show(rows: slice) -> tuple[slice, Images]:
        return rows, evaluation.show(images, chosen[rows])

    with prepared(show, _parts(len(chosen), evaluation.batch_size), evaluation.device) as batches:
        for rows, x in batches:
            parts.append(_explain_batch(network, x, transforms.select(rows)))
            if progress:
                progress.add(2 * len(x))
    predicted, confidence, maps, moved_maps = (torch.cat(column) for column in zip(*parts, strict=True))
    return Explained(
        predicted=predicted, confidence=confidence, maps=maps, moved_maps=moved_maps, transforms=transforms
    )


def _explain_batch(network: Network, x: Images, transforms: Transforms) -> tuple[Tensor, ...]:
    """Predictions, confidences, and the maps of both views."""
    moved = apply_transforms(transforms, x, x.shape[-1])
    with precision(x.device):
        features = network.features(torch.cat([x, moved]))
    features = full_precision(features)
    probabilities = network.head(features[: len(x)].mean((2, 3))).softmax(1)
    confidence, predicted = probabilities.max(1)
    maps = gradcam(features, network.head, predicted.repeat(2))
    return predicted, confidence, maps[: len(x)], maps[len(x) :]


def _map_columns(images: ImageSet, explained: Explained, evaluation: Evaluation) -> Columns:
    partners = evaluation.partners(len(images)).to(evaluation.device)
    positions = torch.arange(len(images))
    parts: list[dict[str, Tensor]] = []

    def draw_regions(rows: slice) -> tuple[slice, Tensor | None]:
        return rows, evaluation.regions(images, positions[rows]) if images.has_regions else None

    with prepared(draw_regions, _parts(len(images), evaluation.num_maps_together), evaluation.device) as batches:
        for rows, regions in batches:
            scores = _map_scores(explained, rows, partners[rows], evaluation.image_size)
            if regions is not None:
                scores |= _region_scores(explained.maps[rows], regions)
            parts.append(scores)
    columns = {name: torch.cat([part[name] for part in parts]).double().cpu() for name in parts[0]}
    columns["degenerate"] = columns["degenerate"] > 0
    nothing = torch.full((len(images),), math.nan, dtype=torch.float64)
    return {"box_mass": nothing, "pointing": nothing, "box_share": nothing} | columns


def _map_scores(explained: Explained, rows: slice, partners: Tensor, size: int) -> dict[str, Tensor]:
    transforms, maps = explained.transforms.select(rows), explained.maps[rows]
    heatmap, moved, of_moved = explained.heatmaps(rows, size)
    other = normalise(move_heatmaps(transforms, upsample(explained.maps[partners], size), size))
    return {
        "consistency": structural_similarity(moved, of_moved),
        "chance": structural_similarity(other, of_moved),
        "correlation": pearson_correlation(moved, of_moved),
        "gini": gini_index(maps),
        "mass_half": mass_half(heatmap),
        "norm_p0": heatmap_norm(heatmap, 0),
        "norm_p1": heatmap_norm(heatmap, 1),
        "norm_p2": heatmap_norm(heatmap, 2),
        "degenerate": is_degenerate(maps),
        "crop_mass": crop_mass(maps, transforms, size),
    }


def _region_scores(maps: RawMaps, regions: Tensor) -> dict[str, Tensor]:
    share = regions.mean((1, 2))
    return {
        "box_mass": region_mass(maps, regions),
        "pointing": pointing(upsample(maps, regions.shape[-1]), regions),
        "box_share": torch.where(share > 0, share, math.nan),
    }


def _insertion_columns(
    network: Network, images: ImageSet, explained: Explained, evaluation: Evaluation, progress: _Progress
) -> Columns:
    count, inserted = len(images), min(evaluation.insertion_images, len(images))
    generator = torch.Generator().manual_seed(derive_seed(evaluation.seed, "insertion images"))
    chosen = torch.randperm(count, generator=generator)[:inserted].sort().values
    names = ("iauc", "dauc", "iauc_start", "iauc_end")
    columns = {name: torch.full((count,), math.nan, dtype=torch.float64) for name in names}

    def show(batch: Tensor) -> tuple[Tensor, Images, Tensor, Tensor]:
        seeds = [derive_seed(evaluation.seed, int(i), "insertion ties") for i in batch]
        orders = draw_tie_orders(seeds, evaluation.image_size**2)
        x = evaluation.show(images, batch)
        return batch, x, batch.to(x.device), orders.to(x.device)

    def classify(shown: Images) -> Tensor:
        with precision(shown.device):
            logits: Tensor = network(shown)
        progress.add(len(shown))
        return logits

    batches = [chosen[part] for part in _parts(inserted, evaluation.num_inserted_together)]
    with prepared(show, batches, evaluation.device) as ready:
        for batch, x, rows, orders in ready:
            scores = insertion_deletion(
                classify,
                x,
                upsample(explained.maps[rows], evaluation.image_size),
                classes=explained.predicted[rows],
                tie_orders=orders,
                batch_size=evaluation.batch_size,
            )
            for name in names:
                columns[name][batch] = getattr(scores, name).double().cpu()
    return columns


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def summarise(columns: Columns) -> dict[str, float | None]:
    """Means over the images that have a value, by column; plus `accuracy_points` and `corrected_consistency`.

    None where no image has a value.
    """
    means: dict[str, float | None] = {}
    for name, values in columns.items():
        if name in ("index", "label", "predicted"):
            continue
        known = values.double()[~values.double().isnan()]
        means[name] = float(known.mean()) if len(known) else None
    means["accuracy_points"] = 100 * float(columns["correct"].double().mean())
    means["degenerate_fraction"] = means.pop("degenerate")
    consistency, chance = means["consistency"], means["chance"]
    corrected = None if consistency is None or chance is None else corrected_consistency(consistency, chance)
    return means | {"corrected_consistency": corrected}
