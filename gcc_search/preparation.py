"""Before any network is trained: images decoded once, weights found, maps of more than one cell."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gcc_search.errors import ResourceError, SpaceError
from gcc_search.homes import expanded
from gcc_search.letters import printable
from gcc_search.plugins import bringers
from gcc_search.saying import say
from gcc_search.settings import DataSettings, TrialSettings
from gcc_search.training.datasets import DataSet, load_dataset
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.own_look import check_own
from gcc_search.training.weights import is_published, weights_file

__all__ = [
    "DataSet",
    "check_network",
    "choose_device",
    "describe_images",
    "is_published",
    "prepare_images",
    "weights_file",
]

TOLD_UNREADABLE = 10


def prepare_images(settings: DataSettings, image_size: int, console: Console) -> DataSet:
    """The data set at one image size, decoded with a progress bar where it is not in the cache yet.

    What cannot be decoded is told once, here, and left out.

    Raises:
        DataError: see `load_dataset`; a folder in the home of nobody.
    """
    if settings.root is not None:
        root = expanded(settings.root, where="data.root")
        settings = settings.model_copy(update={"root": root})
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"preparing {settings.name} at {image_size} pixels", total=None)
        data = load_dataset(
            settings,
            image_size=image_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    # A file's name may hold a line break.
    unreadable = [printable(f"  {item.name}: {item.reason}") for item in data.unreadable]
    if unreadable:
        told = "files need a look (images are left out, annotations done without)"
        say(console, f"{settings.name}: {len(unreadable)} {told}:")
    for line in unreadable[:TOLD_UNREADABLE]:
        say(console, line)
    if len(unreadable) > TOLD_UNREADABLE:
        say(console, f"  ... and {len(unreadable) - TOLD_UNREADABLE} more")
    if data.repeated:
        scored, other = data.repeated[0]
        told = f"{len(data.repeated)} files that are scored are in another split as well, such as {scored}, equal to"
        advice = "scores on them say what was learned by heart; remove one of each pair"
        say(console, f"{settings.name}: {told} {other}: {advice}")
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
        "repeated": [f"{scored}: equal to {other}" for scored, other in data.repeated],
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


def check_network(settings: TrialSettings, data: DataSet, *, is_new: bool, num_processes: int = 1) -> None:
    """Builds the network once.

    Args:
        num_processes: that train it together.

    Raises:
        WeightsError: weights that are not there, torn, or of another network.
        SpaceError: a new one whose maps of such images have one cell: constant, whatever is trained; or whose patches
            leave a border that it would not see.
    """
    # The network that `weights: baseline` means does not exist yet.
    weights = "none" if settings.weights == "baseline" else settings.weights
    network = build_network(settings.network, num_classes=len(data.classes), weights=weights, seed=settings.seed)
    network.is_recomputed = settings.activation_checkpointing
    if bringers(settings.network):
        check_own(network, settings.network, settings.recipe.image_size, num_processes=num_processes)
    if is_new:
        _check_size(network, settings.network, settings.recipe.image_size)


def _check_size(network: Network, name: str, asked: int) -> None:
    patch = network.patch_size
    if unseen := asked % patch:
        raise SpaceError(
            f"image_size: must be a multiple of {patch} for {name}, which cuts images into patches of that size, "
            f"got {asked}; use {asked - unseen} or {asked - unseen + patch}"
        )
    if network.map_side(asked) > 1:
        return
    if bringers(name):
        rule, way_out = f"must be larger for {name}, whose maps have one cell", "raise it, or name a part before it"
    else:
        smallest = next(size for size in itertools.count(asked) if network.map_side(size) > 1)
        rule = f"must be at least {smallest} for {name}, whose maps have one cell below that"
        way_out = "raise it, or use another network"
    raise SpaceError(f"image_size: {rule}, got {asked}; {way_out}")
