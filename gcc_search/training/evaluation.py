"""Per-image measures of a network, in eval mode, on transforms that are equal for all networks: differences pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, apply_transforms, draw_transforms, move_heatmaps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import is_degenerate, normalise, upsample
from gcc_search.saliency.scores import (
    corrected_consistency,
    crop_mass,
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
from gcc_search.training.loop import prepare
from gcc_search.training.networks import Network, full_precision
from gcc_search.training.terms import precision

# The paper's t, whatever the network was trained with: scale 0.08 to 1.
EVALUATION_SCALE = (0.08, 1.0)

# 29 insertion and 29 deletion states share one, the whole image.
INSERTION_PASSES = 57

# One column of per-image measures; NaN where an image has none.
Columns = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How images are shown and scored. `crop` is the share of the short side that the centre crop keeps."""

    image_size: int
    crop: float
    seed: int
    batch_size: int
    device: torch.device
    insertion_images: int = 0

    def show(self, images: ImageSet, batch: Tensor) -> Images:
        """The centre crop of each image, as the network sees it."""
        return apply_transforms(self._view(images, batch), prepare(images.pixels(batch), self.device), self.image_size)

    def regions(self, images: ImageSet, batch: Tensor) -> Tensor:
        """Box or mask of each image in the frame of `show`, (B, size, size) in [0, 1]."""
        whole = images.regions(batch, self.image_size).to(self.device)
        return move_heatmaps(self._view(images, batch), whole, self.image_size)

    def transforms(self, count: int) -> Transforms:
        """t for images 0 to count - 1; image i's depends on (seed, i) alone."""
        frame = torch.tensor([self.image_size])
        drawn = [
            draw_transforms(
                frame,
                frame,
                scale=EVALUATION_SCALE,
                generator=torch.Generator().manual_seed(derive_seed(self.seed, i, "evaluation transform")),
            )
            for i in range(count)
        ]
        return Transforms.concatenate(drawn).to(self.device)

    def partners(self, count: int) -> Tensor:
        """For each image another one of the set, fixed by the seed: a random cycle through all of them."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "evaluation partner"))
        order = torch.randperm(count, generator=generator)
        partners = torch.empty_like(order)
        partners[order] = order.roll(1)
        return partners

    def _view(self, images: ImageSet, batch: Tensor) -> Transforms:
        view = Transforms.center_crop(images.heights[batch], images.widths[batch], fraction=self.crop)
        return view.to(self.device)


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What one pass over the images gives: predictions, and the maps of both views for the first view's class."""

    predicted: Tensor
    confidence: Tensor
    maps: RawMaps
    moved_maps: RawMaps
    transforms: Transforms

    def heatmaps(self, rows: Tensor, size: int) -> tuple[Heatmaps, Heatmaps, Heatmaps]:
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
    for batch in _batches(torch.arange(len(chosen)), evaluation.batch_size):
        x = evaluation.show(images, chosen[batch])
        moved = apply_transforms(transforms.select(batch.to(x.device)), x, evaluation.image_size)
        with precision(x.device):
            features = network.features(torch.cat([x, moved]))
        features = full_precision(features)
        probabilities = network.head(features[: len(batch)].mean((2, 3))).softmax(1)
        confidence, predicted = probabilities.max(1)
        maps = gradcam(features, network.head, predicted.repeat(2))
        parts.append((predicted, confidence, maps[: len(batch)], maps[len(batch) :]))
        if progress:
            progress.add(2 * len(batch))
    predicted, confidence, maps, moved_maps = (torch.cat(column) for column in zip(*parts, strict=True))
    return Explained(
        predicted=predicted, confidence=confidence, maps=maps, moved_maps=moved_maps, transforms=transforms
    )


def _map_columns(images: ImageSet, explained: Explained, evaluation: Evaluation) -> Columns:
    partners = evaluation.partners(len(images)).to(evaluation.device)
    parts: list[dict[str, Tensor]] = []
    for batch in _batches(torch.arange(len(images)), evaluation.batch_size):
        rows = batch.to(evaluation.device)
        scores = _map_scores(explained, rows, partners[rows], evaluation.image_size)
        if images.has_regions:
            scores |= _region_scores(explained.maps[rows], evaluation.regions(images, batch))
        parts.append({name: values.double().cpu() for name, values in scores.items()})
    columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    columns["degenerate"] = columns["degenerate"] > 0
    nothing = torch.full((len(images),), math.nan, dtype=torch.float64)
    return {"box_mass": nothing, "pointing": nothing, "box_share": nothing} | columns


def _map_scores(explained: Explained, rows: Tensor, partners: Tensor, size: int) -> dict[str, Tensor]:
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
    for batch in _batches(chosen, max(1, evaluation.batch_size // 8)):
        rows = batch.to(evaluation.device)
        scores = insertion_deletion(
            lambda shown: _classify(network, shown),
            evaluation.show(images, batch),
            upsample(explained.maps[rows], evaluation.image_size),
            classes=explained.predicted[rows],
            seeds=[derive_seed(evaluation.seed, int(i), "insertion ties") for i in batch],
            batch_size=evaluation.batch_size,
        )
        for name in names:
            columns[name][batch] = getattr(scores, name).double().cpu()
        progress.add(INSERTION_PASSES * len(batch))
    return columns


def _batches(indices: Tensor, size: int) -> tuple[Tensor, ...]:
    # split() of nothing is one empty batch.
    return tuple(indices.split(size)) if len(indices) else ()  # type: ignore[no-untyped-call]


def _classify(network: Network, shown: Images) -> Tensor:
    with precision(shown.device):
        logits: Tensor = network(shown)
    return logits


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
