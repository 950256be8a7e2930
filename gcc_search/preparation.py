"""Before any network is trained: images decoded once, weights found, the cost of a trial guessed from a few steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gcc_search.errors import ResourceError
from gcc_search.saliency.geometry import Transforms
from gcc_search.saying import say
from gcc_search.settings import DataSettings, Explanation, TrialSettings
from gcc_search.training.datasets import DataSet, load_dataset
from gcc_search.training.evaluation import INSERTION_PASSES
from gcc_search.training.loop import EpochPlan, perturb
from gcc_search.training.networks import Network, build_network
from gcc_search.training.terms import loss_terms
from gcc_search.training.weights import is_published, weights_file

__all__ = [
    "Cost",
    "DataSet",
    "check_weights",
    "choose_device",
    "describe_images",
    "estimate_cost",
    "is_published",
    "prepare_images",
    "weights_file",
]

# A batch is timed as it will be trained; the first of the tries warms up.
TIMED_TRIES = 3
TOLD_UNREADABLE = 10


def prepare_images(settings: DataSettings, image_size: int, console: Console) -> DataSet:
    """The data set at one image size, decoded with a progress bar where it is not in the cache yet.

    What cannot be decoded is told once, here, and left out.

    Raises:
        DataError: see `load_dataset`.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"preparing {settings.name} at {image_size} pixels", total=None)
        data = load_dataset(
            settings,
            image_size=image_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    unreadable = [f"  {item.name}: {item.reason}" for item in data.unreadable]
    if unreadable:
        told = "files need a look (images are left out, annotations done without)"
        say(console, f"{settings.name}: {len(unreadable)} {told}:")
    for line in unreadable[:TOLD_UNREADABLE]:
        say(console, line)
    if len(unreadable) > TOLD_UNREADABLE:
        say(console, f"  ... and {len(unreadable) - TOLD_UNREADABLE} more")
    return data


def describe_images(image_size: int, data: DataSet) -> dict[str, Any]:
    """What run.json tells of the images at one size."""
    splits = {name: len(getattr(data, name)) for name in ("train", "validation", "test")}
    return {
        "name": data.name,
        "image_size": image_size,
        "fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "images": splits,
        "unreadable": [f"{item.name}: {item.reason}" for item in data.unreadable],
    }


def choose_device(asked: str | None) -> torch.device:
    """`--device` as torch has it; the GPU where nothing is asked for and there is one.

    Raises:
        ResourceError: another word, or a GPU that is not there.
    """
    if asked not in (None, "cpu", "cuda"):
        raise ResourceError(f"--device: must be cpu or cuda, got {asked}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise ResourceError("--device: must be cpu, got cuda on a machine without a GPU that torch can use")
    return torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))


def check_weights(settings: TrialSettings, data: DataSet) -> None:
    """Builds the network once.

    Raises:
        WeightsError: weights that are not there, torn, or of another network.
    """
    _build(settings, data)


def _build(settings: TrialSettings, data: DataSet) -> Network:
    # The network that `weights: baseline` means does not exist yet; a random one is as large and as fast.
    weights = "none" if settings.weights == "baseline" else settings.weights
    return build_network(settings.network, num_classes=len(data.classes), weights=weights, seed=settings.seed)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds on one device: of a trial (two views), of its baseline and of its start network (one view each)."""

    trial_seconds: float
    baseline_seconds: float
    start_seconds: float


def estimate_cost(settings: TrialSettings, *, start_epochs: int, data: DataSet, device: torch.device) -> Cost:
    """From the seconds of a forward pass and of a step, and how many of each a trial makes. Trains nothing.

    Args:
        start_epochs: epochs of the network that trials start from; 0 where there is none.
    """
    forward, step = _time_passes(_build(settings, data).to(device), settings, data, device)
    inserted = min(settings.evaluation.insertion_images, len(data.test))
    test = forward * (2 * len(data.test) + INSERTION_PASSES * inserted)
    validate, train = 2 * forward * len(data.validation), step * len(data.train)
    epochs = settings.recipe.epochs
    return Cost(
        trial_seconds=epochs * (2 * train + validate) + test,
        baseline_seconds=epochs * (train + validate) + test,
        start_seconds=start_epochs * (train + validate) + test if start_epochs else 0.0,
    )


def _time_passes(network: Network, settings: TrialSettings, data: DataSet, device: torch.device) -> tuple[float, float]:
    """Seconds an image of a forward pass and of a one-view step: the best of a few tries."""
    plan = EpochPlan(recipe=settings.recipe, explanation=Explanation(), epoch=1, seed=0, device=device)
    batch = torch.arange(min(settings.recipe.batch_size, len(data.train)))
    labels, still = data.train.labels[batch].to(device), Transforms.identity(len(batch))
    forwards, steps = [], []
    for _ in range(TIMED_TRIES):
        begun = time.perf_counter()
        x = perturb(data.train, batch, plan, generator=plan.generator("augment"))
        loss = loss_terms(network, x, labels, still, plan.explanation).total(0.0, 0.0)
        loss.item()
        forwards.append(time.perf_counter() - begun)
        loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps.append(time.perf_counter() - begun)
    return min(forwards) / len(batch), min(steps) / len(batch)
