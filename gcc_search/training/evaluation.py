"""Per-image measures of a network, in eval mode, on transforms that are equal for all networks: differences pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.earned import earned_consistency
from gcc_search.saliency.geometry import Transforms, move_heatmaps, sample_positions
from gcc_search.saliency.losses import is_degenerate, normalise, upsample
from gcc_search.saliency.scores import (
    InsertionScores,
    choose_partners,
    corrected_consistency,
    draw_tie_orders,
    insertion_deletion,
)
from gcc_search.saliency.shapes import Heatmaps, Images, Logits
from gcc_search.seeding import derive_seed
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.image_set import ImageSet
from gcc_search.training.map_scores import Replay, map_scores, similarity
from gcc_search.training.passes import Passes, Seen
from gcc_search.training.prefetch import prepared
from gcc_search.training.terms import casts_kept, shown_dtype

# 29 insertion and 29 deletion states share one, the whole image.
INSERTION_PASSES = 57
INSERTION_COLUMNS = ("iauc", "dauc", "iauc_start", "iauc_end")
REGION_COLUMNS = ("box_mass", "pointing", "box_share")
NOT_ALWAYS = (*REGION_COLUMNS, *INSERTION_COLUMNS, "own_consistency")

# One column of per-image measures; NaN where an image has none.
Columns = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What one pass over the images gives, and the transforms of their second views."""

    seen: Seen
    transforms: Transforms

    def heatmaps(self, rows: Tensor | slice, size: int) -> tuple[Heatmaps, Heatmaps, Heatmaps]:
        """M(x), t(M(x)) and M(t(x)) of the images at `rows`, at size x size, in [0, 1]."""
        full = upsample(self.seen.maps[rows], size)
        moved = move_heatmaps(self.transforms.select(rows), full, size)
        return normalise(full), normalise(moved), normalise(upsample(self.seen.moved_maps[rows], size))


@torch.no_grad()
def measure(
    passes: Passes,
    images: ImageSet,
    evaluation: Evaluation,
    *,
    own_classes: bool = True,
    on_step: Callable[[int, int], None] | None = None,
) -> Columns:
    """Every per-image measure of images.parquet, one float64 or integer tensor of len(images) a column, on the CPU.

    Args:
        passes: the network's; the same ones for whoever measures it again and again.
        own_classes: `own_consistency` as well, which no search is led by; NaN otherwise.
        on_step: called with (forward passes done, in all), in images.
    """
    count, insertion = len(images), _Insertion(images, evaluation)
    progress = _Progress(on_step, total=2 * count + INSERTION_PASSES * len(insertion.chosen))
    cycle = evaluation.cycle(count).to(evaluation.device, non_blocking=True)
    cells = passes.network.map_side(evaluation.image_size)
    with _replays(images, evaluation, cells) as replays, insertion.begun() as batches:
        explained = explain(passes, images, evaluation, progress=progress)
        # Nothing is fetched before all is asked for.
        of_maps = {"confidence": explained.seen.confidence} | _map_columns(explained.seen, cycle, replays)
        of_insertion = insertion.columns(passes, explained.seen, batches, progress)
        if own_classes:
            of_maps["own_consistency"] = _own_consistency(explained, of_maps["consistency"], evaluation)
    nothing = {name: torch.full((count,), math.nan, dtype=torch.float64) for name in NOT_ALWAYS}
    measured = nothing | _to_cpu(of_maps, count) | _to_cpu(of_insertion, count, insertion.chosen)
    predicted, moved_predicted = torch.stack([explained.seen.predicted, explained.seen.moved_predicted]).cpu()
    known = {"index": torch.arange(count), "label": images.labels, "predicted": predicted}
    decided = {"correct": predicted == images.labels, "degenerate": measured["degenerate"] > 0}
    decided["moved_correct"] = (moved_predicted == images.labels).double()
    return known | measured | decided


class _Progress:
    def __init__(self, on_step: Callable[[int, int], None] | None, *, total: int) -> None:
        self._on_step, self._total, self._done = on_step, total, 0

    def add(self, count: int) -> None:
        self._done += count
        if self._on_step:
            self._on_step(self._done, self._total)


@torch.no_grad()
def explain(
    passes: Passes,
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
    passes.network.eval()
    chosen = torch.arange(len(images)) if chosen is None else chosen
    transforms = evaluation.transforms(len(images)).select(chosen.to(evaluation.device))
    size, parts = evaluation.image_size, list[Seen]()

    def show(rows: slice) -> tuple[Images, Tensor]:
        positions = sample_positions(transforms.select(rows), size, size, size).float()
        return evaluation.show(images, chosen[rows]), positions

    batches_shown = prepared(show, _parts(len(chosen), evaluation.batch_size), evaluation.device)
    with batches_shown as batches, casts_kept(evaluation.device):
        for x, positions in batches:
            parts.append(passes.explain(x, positions))
            if progress:
                progress.add(2 * len(x))
    seen = Seen(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return Explained(seen=seen, transforms=transforms)


def _replays(
    images: ImageSet, evaluation: Evaluation, cells: int
) -> AbstractContextManager[Iterator[tuple[slice, Replay, Tensor | None]]]:
    """What maps of `cells` on a side are scored by, of so many images at a time; made ahead, as no network changes it.

    With boxes or masks, where images have any.
    """
    transforms, positions = evaluation.transforms(len(images)), torch.arange(len(images))

    def make(rows: slice) -> tuple[slice, Replay, Tensor | None]:
        replay = Replay.of(transforms.select(rows), cells, evaluation.image_size)
        return rows, replay, evaluation.regions(images, positions[rows]) if images.has_regions else None

    return prepared(make, _parts(len(images), evaluation.num_maps_together), evaluation.device)


def _map_columns(
    seen: Seen, cycle: Tensor, replays: Iterator[tuple[slice, Replay, Tensor | None]]
) -> dict[str, Tensor]:
    """On the device, in the maps' precision."""
    maps, moved_maps = seen.maps, seen.moved_maps
    partners = choose_partners(cycle, is_degenerate(maps))
    parts = [
        map_scores(maps[rows], moved_maps[rows], maps[partners[rows]], replay, regions)
        for rows, replay, regions in replays
    ]
    return {name: torch.cat([part[name] for part in parts]).to(maps.dtype) for name in parts[0]}


def _own_consistency(explained: Explained, consistency: Tensor, evaluation: Evaluation) -> Tensor:
    """The same where each view's map is for the class predicted on it: another number where that is another class."""
    seen, own = explained.seen, consistency.clone()
    (others,) = torch.where(seen.moved_predicted != seen.predicted)
    for part in _parts(len(others), evaluation.num_maps_together):
        rows = others[part]
        transforms = explained.transforms.select(rows)
        replay = Replay.of(transforms, seen.maps.shape[1], evaluation.image_size, is_correlating=False)
        own[rows] = similarity(seen.maps[rows], seen.own_maps[rows], replay).to(own.dtype)
    return own


class _Insertion:
    """Insertion and deletion of the images that the evaluation's seed chooses; what they begin with is made ahead."""

    def __init__(self, images: ImageSet, evaluation: Evaluation) -> None:
        self._images, self._evaluation = images, evaluation
        generator = torch.Generator().manual_seed(derive_seed(evaluation.seed, "insertion images"))
        inserted = min(evaluation.insertion_images, len(images))
        self.chosen = torch.randperm(len(images), generator=generator)[:inserted].sort().values

    def begun(self) -> AbstractContextManager[Iterator[tuple[Images, Tensor, Tensor]]]:
        """Images, their positions, and orders of ties, of so many at a time."""
        parts = _parts(len(self.chosen), self._evaluation.num_inserted_together)
        return prepared(self._show, [self.chosen[part] for part in parts], self._evaluation.device)

    def _show(self, batch: Tensor) -> tuple[Images, Tensor, Tensor]:
        evaluation = self._evaluation
        seeds = [derive_seed(evaluation.seed, int(i), "insertion ties") for i in batch]
        orders = draw_tie_orders(seeds, evaluation.image_size**2)
        x = evaluation.show(self._images, batch)
        return x, batch.to(x.device), orders.to(x.device)

    def columns(
        self,
        passes: Passes,
        seen: Seen,
        batches: Iterator[tuple[Images, Tensor, Tensor]],
        progress: _Progress,
    ) -> dict[str, Tensor]:
        """Of the images chosen, on the device."""
        evaluation, size = self._evaluation, self._evaluation.image_size

        def classify(shown: Images) -> Logits:
            logits = passes.classify(shown)
            progress.add(len(shown))
            return logits

        parts: list[InsertionScores] = []
        with casts_kept(evaluation.device):
            for x, rows, orders in batches:
                scores = insertion_deletion(
                    classify,
                    x,
                    upsample(seen.maps[rows], size),
                    classes=seen.predicted[rows],
                    tie_orders=orders,
                    batch_size=evaluation.num_states_together,
                    dtype=shown_dtype(evaluation.device),
                )
                parts.append(scores)
        return {name: torch.cat([getattr(part, name) for part in parts]) for name in INSERTION_COLUMNS if parts}


def _to_cpu(columns: dict[str, Tensor], count: int, positions: Tensor | slice = slice(None)) -> Columns:
    """Float64; NaN where there is no image of the column. One copy for all: the device is waited for once."""
    filled = {name: torch.full((count,), math.nan, dtype=torch.float64) for name in columns}
    if columns:
        for name, values in zip(columns, torch.stack([*columns.values()]).cpu(), strict=True):
            filled[name][positions] = values.double()
    return filled


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def summarise(columns: Columns) -> dict[str, float | None]:
    """Means over the images that have a value, by column; plus `accuracy_points` and `corrected_consistency`.

    None where no image has a value.
    """
    unmeaning = ("index", "label", "predicted")
    means = {name: _mean_of_known(values) for name, values in columns.items() if name not in unmeaning}
    means["accuracy_points"] = 100 * float(columns["correct"].double().mean())
    means["degenerate_fraction"] = means.pop("degenerate")
    return means | {"corrected_consistency": _corrected(columns)}


def _mean_of_known(values: Tensor) -> float | None:
    known = values.double()[~values.double().isnan()]
    return float(known.mean()) if len(known) else None


def _corrected(columns: Columns) -> float | None:
    given = (columns[name].double().numpy() for name in ("consistency", "chance", "degenerate"))
    earned, chance = _mean_of_known(torch.from_numpy(earned_consistency(*given))), _mean_of_known(columns["chance"])
    return None if earned is None or chance is None else corrected_consistency(earned, chance)
