"""What measuring a test set costs over the forward passes in it, and other methods' maps over grad-cam's own loop."""

from __future__ import annotations

import itertools
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.pictures import IMAGE_SIZE, images_to_score
from benchmarks.timing import best_device, hardware_of, medians_of, take_turns
from gcc_search.explaining import POSTHOC_BATCH
from gcc_search.posthoc import METHODS, posthoc_heatmaps
from gcc_search.training.datasets import eval_crop_of
from gcc_search.training.evaluation import INSERTION_PASSES, measure
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.image_set import ImageSet
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.passes import Passes
from gcc_search.training.terms import casts_kept, precision, shown_dtype

NETWORKS = ("resnet18", "resnet50", "convnext_tiny")
# The cheap ones: what others take lies in their many forward passes.
POSTHOC = ("gradcam", "gradcam++", "hirescam", "layercam", "eigencam")


@dataclass(frozen=True, kw_only=True)
class Size:
    """Images to validate on, images to test on, images a batch, rounds, and images for other methods' maps."""

    num_validated: int
    num_tested: int
    batch_size: int
    rounds: int
    num_posthoc: int


SIZES = {
    "cpu": Size(num_validated=16, num_tested=2, batch_size=16, rounds=1, num_posthoc=4),
    "cuda": Size(num_validated=1100, num_tested=96, batch_size=64, rounds=2, num_posthoc=8),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """`measure` of so many images, as of a validation split or, with insertion and deletion of each, of a test split.

    Medians over the rounds.
    """

    network: str
    split: str
    images: int
    batch_size: int
    seconds: float
    forward_seconds: float
    time_ratio: float


@dataclass(frozen=True, kw_only=True)
class PosthocRow:
    """One method's maps: ours, and pytorch-grad-cam's own way, image by image and batch by batch."""

    network: str
    method: str
    images: int
    seconds: float
    one_by_one_seconds: float
    batched_seconds: float
    time_ratio: float
    """To the faster of the two."""


def measure_evaluation(data_root: Path | None) -> dict[str, Any]:
    """The sections of the results file, printed as well; on the GPU where there is one."""
    device = best_device()
    size = SIZES[device.type]
    images = images_to_score(size.num_validated, data_root)
    rows: list[Row] = []
    posthoc: list[PosthocRow] = []
    for name in track(NETWORKS, description="evaluation", console=Console(stderr=True)):
        network = build_network(name, num_classes=101, weights="none", seed=0).to(device).eval()
        rows.append(_measure(name, network, images, size, split="validation"))
        rows.append(_measure(name, network, images.subset(torch.arange(size.num_tested)), size, split="test"))
        posthoc += [_compare(name, network, images, size, method) for method in POSTHOC]
    # A pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 110).print(_table(rows), _posthoc_table(posthoc))
    sections = {"evaluation": [asdict(row) for row in rows], "posthoc": [asdict(row) for row in posthoc]}
    return {"threads": torch.get_num_threads()} | sections | hardware_of(device)


def _measure(name: str, network: Network, images: ImageSet, size: Size, *, split: str) -> Row:
    # A test split is measured once, so each round has a seed and draws of its own; validation is every epoch's.
    seeds = itertools.count() if split == "test" else itertools.repeat(0)
    inserted = len(images) if split == "test" else 0
    # Graphs of passes, likewise.
    kept = None if split == "test" else Passes(network)

    def measured() -> None:
        evaluation = _evaluation(size, seed=next(seeds), inserted=inserted)
        measure(kept or Passes(network), images, evaluation, own_classes=split == "test")

    works = {
        "measure": measured,
        "forward": lambda: _pass_forward(network, size, count=len(images), inserted=inserted),
    }
    seconds = medians_of(take_turns(works, best_device(), rounds=size.rounds))
    return Row(
        network=name,
        split=split,
        images=len(images),
        batch_size=size.batch_size,
        seconds=seconds["measure"],
        forward_seconds=seconds["forward"],
        time_ratio=seconds["measure"] / seconds["forward"],
    )


def _evaluation(size: Size, *, seed: int, inserted: int = 0) -> Evaluation:
    return Evaluation(
        image_size=IMAGE_SIZE,
        crop=eval_crop_of("caltech101"),
        seed=seed,
        batch_size=size.batch_size,
        device=best_device(),
        insertion_images=inserted,
    )


@torch.no_grad()
def _pass_forward(network: Network, size: Size, *, count: int, inserted: int) -> None:
    """Both views of every image together, and the states of those inserted and deleted, in full batches."""
    device = best_device()
    states_together = _evaluation(size, seed=0).num_states_together
    x = torch.randn(2 * size.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE, device=device)
    x = x.to(shown_dtype(device), memory_format=torch.channels_last)
    with casts_kept(device):
        for shown in _parts(2 * count, 2 * size.batch_size) + _parts(INSERTION_PASSES * inserted, states_together):
            with precision(device):
                network(x[:shown])


def _parts(whole: int, size: int) -> list[int]:
    return [size] * (whole // size) + ([whole % size] if whole % size else [])


def _compare(name: str, network: Network, images: ImageSet, size: Size, method: str) -> PosthocRow:
    x = _evaluation(size, seed=0).show(images, torch.arange(size.num_posthoc))
    labels = images.labels[: len(x)].tolist()

    def ours() -> None:
        for start in range(0, len(x), POSTHOC_BATCH):
            rows = slice(start, start + POSTHOC_BATCH)
            posthoc_heatmaps(network, x[rows], labels[rows], method)

    def loop(batch_size: int) -> None:
        with getattr(pytorch_grad_cam, METHODS[method])(model=network, target_layers=[network.last_stage]) as cam:
            for start in range(0, len(x), batch_size):
                rows = slice(start, start + batch_size)
                cam(input_tensor=x[rows], targets=[ClassifierOutputTarget(label) for label in labels[rows]])

    works = {"ours": ours, "one by one": lambda: loop(1), "batched": lambda: loop(size.batch_size)}
    seconds = medians_of(take_turns(works, x.device, rounds=size.rounds))
    network.zero_grad(set_to_none=True)
    return PosthocRow(
        network=name,
        method=method,
        images=len(x),
        seconds=seconds["ours"],
        one_by_one_seconds=seconds["one by one"],
        batched_seconds=seconds["batched"],
        time_ratio=seconds["ours"] / min(seconds["one by one"], seconds["batched"]),
    )


def _table(rows: list[Row]) -> Table:
    table = Table("network", "split", "images", "measured in", "forward passes", "ratio")
    for row in rows:
        times = (f"{row.seconds:.3f} s", f"{row.forward_seconds:.3f} s", f"{row.time_ratio:.2f}")
        table.add_row(row.network, row.split, str(row.images), *times)
    return table


def _posthoc_table(rows: list[PosthocRow]) -> Table:
    table = Table("network", "method", "ours, ms an image", "grad-cam, one by one", "batched", "ratio to the faster")
    for row in rows:
        times = (row.seconds, row.one_by_one_seconds, row.batched_seconds)
        told = (f"{1000 * seconds / row.images:.1f}" for seconds in times)
        table.add_row(row.network, row.method, *told, f"{row.time_ratio:.2f}")
    return table
