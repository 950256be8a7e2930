"""Whether images come faster than steps take them, and how soon a process is at the next trial's first step."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.pictures import IMAGE_SIZE, photographs
from benchmarks.timing import best_device, hardware_of, medians_of, synchronise, take_turns
from gcc_search.settings import DataSettings, EvaluationSettings, Explanation, NetworkName, Recipe, TrialSettings
from gcc_search.training.checkpoint import save_weights
from gcc_search.training.image_set import ImageSet
from gcc_search.training.learner import Learner
from gcc_search.training.loop import EpochPlan, batches_of, train_epoch
from gcc_search.training.networks import build_network
from gcc_search.training.steps import Steps
from gcc_search.training.terms import loss_terms
from gcc_search.trial import Surroundings, make_optimizer, open_dataset, run_trial

NETWORKS: tuple[NetworkName, ...] = ("resnet18", "resnet50", "convnext_tiny")


@dataclass(frozen=True, kw_only=True)
class Size:
    """Images a batch, steps in a row, rounds, and photographs that there are."""

    batch_size: int
    num_steps: int
    rounds: int
    num_images: int


SIZES = {
    "cpu": Size(batch_size=8, num_steps=3, rounds=2, num_images=60),
    "cuda": Size(batch_size=32, num_steps=20, rounds=3, num_images=1000),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network: medians over the rounds.

    Args:
        epoch_to_step: images a second of a real epoch, as a share of the step's alone; 1 where input costs nothing.
        first_trial_seconds: from the call to where the first step begins, its batch on the device; of the first network
            with the images' decoding. second_trial_seconds: alike, afterwards in the same process.
    """

    network: str
    batch_size: int
    input_images_per_second: float
    step_images_per_second: float
    input_to_step: float
    epoch_to_step: float
    first_trial_seconds: float
    second_trial_seconds: float


def measure_input(data_root: Path | None) -> dict[str, Any]:
    """The section of the results file, printed as well; on the GPU where there is one."""
    device = best_device()
    size = SIZES[device.type]
    with photographs(size.num_images, data_root) as data:
        networks = track(NETWORKS, description="input", console=Console(stderr=True))
        rows = [_measure(network, data, size, device) for network in networks]
    # A pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 110).print(_table(rows))
    return {"threads": torch.get_num_threads(), "input": [asdict(row) for row in rows]} | hardware_of(device)


def _measure(name: NetworkName, data: DataSettings, size: Size, device: torch.device) -> Row:
    settings = TrialSettings(
        network=name,
        weights="none",
        data=data,
        recipe=Recipe(epochs=1, batch_size=size.batch_size, image_size=IMAGE_SIZE),
        explanation=Explanation(alpha=1.0, beta=0.1),
        evaluation=EvaluationSettings(insertion_images=0),
    )
    trials = _seconds_to_first_steps(settings, device)
    num_images = size.num_steps * size.batch_size
    images = open_dataset(data, IMAGE_SIZE).train.subset(torch.arange(num_images))
    seconds = medians_of(take_turns(_works(settings, images, device), device, rounds=size.rounds))
    return Row(
        network=name,
        batch_size=size.batch_size,
        input_images_per_second=num_images / seconds["input"],
        step_images_per_second=num_images / seconds["step"],
        input_to_step=seconds["step"] / seconds["input"],
        epoch_to_step=seconds["step"] / seconds["epoch"],
        first_trial_seconds=trials[0],
        second_trial_seconds=trials[1],
    )


def _works(settings: TrialSettings, images: ImageSet, device: torch.device) -> dict[str, Callable[[], object]]:
    """The input alone, steps alone on a batch that is there already, and both as they are in an epoch."""
    network = build_network(settings.network, num_classes=101, weights="none", seed=0).to(device).train()
    optimizer = make_optimizer(network, settings)
    plan = EpochPlan(recipe=settings.recipe, explanation=settings.explanation, epoch=1, seed=0, device=device)
    learner = Learner(network, loss_terms)
    num_steps = len(images) // settings.recipe.batch_size

    def prepare_all() -> None:
        with batches_of(images, plan, learner) as batches:
            for _ in batches:
                pass

    with batches_of(images, plan, learner) as batches:
        count, ready = next(batches)
    steps = Steps(learner, optimizer, plan.explanation, alpha=plan.alpha, beta=plan.beta)

    return {
        "input": prepare_all,
        "step": lambda: [steps.take(ready, of=count) for _ in range(num_steps)],
        "epoch": lambda: train_epoch(network, images, optimizer, plan, learner=learner),
    }


class _FirstStepError(Exception):
    """Raised in its place."""


def _seconds_to_first_steps(settings: TrialSettings, device: torch.device) -> list[float]:
    """Of two trials of one process that start from a file of weights, each until its first step begins."""

    def stop(*batch: object, of: int) -> None:
        synchronise(device)
        raise _FirstStepError

    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "network.safetensors"
        save_weights(weights, build_network(settings.network, num_classes=1000, weights="none", seed=0))
        # Trials of a search mostly have one seed.
        for alpha in (1.0, 2.0):
            explanation = Explanation(alpha=alpha, beta=0.1)
            trial = settings.model_copy(update={"weights": str(weights), "explanation": explanation})
            begun = time.perf_counter()
            try:
                with mock.patch.object(Steps, "take", stop):
                    next(run_trial(trial, Surroundings(device=device)))
            except _FirstStepError:
                seconds.append(time.perf_counter() - begun)
    return seconds


def _table(rows: list[Row]) -> Table:
    table = Table(
        "network", "input, images/s", "step, images/s", "input / step", "epoch / step", "1st trial", "2nd trial"
    )
    for row in rows:
        table.add_row(
            row.network,
            f"{row.input_images_per_second:.0f}",
            f"{row.step_images_per_second:.1f}",
            f"{row.input_to_step:.1f}",
            f"{row.epoch_to_step:.2f}",
            f"{row.first_trial_seconds:.2f} s",
            f"{row.second_trial_seconds:.2f} s",
        )
    return table
