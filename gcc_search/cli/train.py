"""One network without a search: train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcc_search.cli.options import Classes, DataRoot, Device, Download, Out, command_line, listed_classes
from gcc_search.errors import SpaceError


def add_train_command(app: typer.Typer) -> None:
    app.command()(train)


def train(
    context: typer.Context,
    dataset: Annotated[str | None, typer.Option(help="shapes, caltech101, cub200 or imagefolder.")] = None,
    model: Annotated[
        str | None, typer.Option(help="resnet18, resnet50, convnext_tiny, vit_b_16, ...: the README names all.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="A trial directory, as in runs/shapes/trials/NAME: train with its settings again."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Weight of the consistency loss.")] = 0.0,
    beta: Annotated[float, typer.Option(help="Weight of the sparsity loss.")] = 0.0,
    p: Annotated[float, typer.Option(help="Order of the sparsity norm.")] = 1.0,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 20,
    distance: Annotated[str, typer.Option(help="ssim or correlation.")] = "ssim",
    weights: Annotated[str, typer.Option(help="IMAGENET1K_V1, DEFAULT, none or a file.")] = "IMAGENET1K_V1",
    classes: Classes = None,
    lr: Annotated[float, typer.Option(help="Learning rate of SGD.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    image_size: Annotated[int, typer.Option(help="Side of the images as the network sees them, pixels.")] = 224,
    insertion_images: Annotated[int, typer.Option(help="Test images for insertion and deletion AUC.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting, by its name in a space file: sparsity=paper, cam_class=own, momentum=0.8, "
            "data.split_seed=1. May be given several times.",
        ),
    ] = None,
    activation_checkpointing: Annotated[
        bool, typer.Option("--activation-checkpointing", help="Less memory for more time: for large images.")
    ] = False,
    device: Device = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the run. Default: made from data set, network, loss, learning rate and seed."),
    ] = None,
    out: Out = "runs",
    data_root: DataRoot = None,
    download: Download = False,
) -> None:
    """Train one network with L = L_CE + alpha L_C + beta L_S, with a progress bar. Needs no Ray.

    Exit code 2 where the loss is not finite any more. One that was broken off goes on from its last epoch when the same
    command is given again; not in a bucket.

    --like TRIAL repeats a trial of a search, to its end, beside copies of its baseline and of the network that it
    started from, with as many threads; equal rows on an equal machine. It goes with --device, --name, --out,
    --data-root and --download only.
    """
    if like is not None:
        _check_no_settings(context)
        _train_again(like, device=device, name=name, out=out, data_root=data_root, download=download)
        return
    if dataset is None or model is None:
        missing = "--dataset" if dataset is None else "--model"
        raise SpaceError(f"{missing}: must be given, or --like with a trial to repeat; see gcc-search train --help")

    from gcc_search.cli.assignments import assign
    from gcc_search.single import train_one
    from gcc_search.space import check_settings
    from gcc_search.storage.mirror import local_folder

    content = {
        "network": model,
        "weights": weights,
        "data": {"name": dataset, "root": data_root, "classes": listed_classes(classes), "download": download},
        "recipe": {"epochs": epochs, "lr": lr, "batch_size": batch_size, "image_size": image_size},
        "explanation": {"alpha": alpha, "beta": beta, "p": p, "distance": distance},
        "evaluation": {"insertion_images": insertion_images},
        "seed": seed,
        "activation_checkpointing": activation_checkpointing,
    }
    assign(content, set_ or (), options=_OPTIONS)
    try:
        settings = check_settings(content)
    except SpaceError as error:
        raise SpaceError(_as_typed(str(error))) from None
    with local_folder(out) as runs:
        _, status = train_one(settings, out=runs, name=name, device=device, command=command_line())
    _exit_by(status)


def _train_again(
    like: str, *, device: str | None, name: str | None, out: str, data_root: Path | None, download: bool
) -> None:
    from gcc_search.fetching import open_trials
    from gcc_search.repeating import needs_of, read_original
    from gcc_search.single import train_one
    from gcc_search.storage.mirror import local_folder

    with open_trials([like], needs_of) as (folder,), local_folder(out) as runs:
        original = read_original(folder, data_root=data_root, download=download)
        _, status = train_one(
            original.settings, out=runs, name=name, device=device, command=command_line(), like=original
        )
    _exit_by(status)


def _exit_by(status: str) -> None:
    if status == "diverged":
        raise typer.Exit(2)


# Which option says which setting.
_OPTIONS = {
    "network": "--model",
    "weights": "--weights",
    "data.name": "--dataset",
    "data.root": "--data-root",
    "data.classes": "--classes",
    "data.download": "--download",
    "recipe.epochs": "--epochs",
    "recipe.lr": "--lr",
    "recipe.batch_size": "--batch-size",
    "recipe.image_size": "--image-size",
    "explanation.alpha": "--alpha",
    "explanation.beta": "--beta",
    "explanation.p": "--p",
    "explanation.distance": "--distance",
    "evaluation.insertion_images": "--insertion-images",
    "seed": "--seed",
    "activation_checkpointing": "--activation-checkpointing",
}
_BESIDE_LIKE = ("like", "device", "name", "out", "data_root", "download")


def _as_typed(complaint: str) -> str:
    """A line about a setting, about the option that says it."""
    setting, sign, rest = complaint.partition(":")
    return f"{_OPTIONS.get(setting, setting)}{sign}{rest}"


def _check_no_settings(context: typer.Context) -> None:
    given = [
        f"--{parameter.rstrip('_').replace('_', '-')}"
        for parameter in context.params
        if parameter not in _BESIDE_LIKE and _is_given(context, parameter)
    ]
    if given:
        raise SpaceError(f"--like: must stand without {', '.join(given)}; the trial's own settings are used")


def _is_given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"
