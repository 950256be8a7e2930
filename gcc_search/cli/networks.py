"""Commands that use a trained network: evaluate, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from gcc_search.cli.options import Classes, DataRoot, Device, listed_classes, table_width

COSE_IMAGES = 1000


class _ImagesInARow(TyperCommand):
    """`--images A B C` is `--images A --images B --images C`, so that a shell's `--images *.jpg` works."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        inside = False
        for argument in args:
            if argument.startswith("-") and argument != "-":
                inside = argument == "--images"
            elif inside and spread[-1] != "--images":
                spread.append("--images")
            spread.append(argument)
        return super().parse_args(ctx, spread)


def add_network_commands(app: typer.Typer) -> None:
    app.command()(evaluate)
    app.command(cls=_ImagesInARow)(explain)


def evaluate(
    model: Annotated[str, typer.Argument(help="A trial, or an exported file.")],
    data_root: DataRoot = None,
    dataset: Annotated[str | None, typer.Option(help="Other images: shapes, caltech101, cub200, imagefolder.")] = None,
    classes: Classes = None,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    insertion_images: Annotated[
        int | None, typer.Option(help="Images for insertion and deletion AUC. Default: all.")
    ] = None,
    cose: Annotated[
        bool, typer.Option("--cose", help="COSE (Daroya et al., 2023) as well: 15 forward passes for each image.")
    ] = False,
    cose_images: Annotated[
        int | None, typer.Option(min=1, help="COSE on at most so many fixed images. Default with --cose: 1000.")
    ] = None,
    device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the measures of each image to this .parquet file; COSE's pairs to .cose.parquet."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another file that --out finds in its way.")] = False,
) -> None:
    """Measure a trained network on a split of the images it was searched with, or of others of the same classes.

    Prints means with standard errors. The fixed transforms are those of the search: on the CPU, a trial's own test
    split gives the trial's own numbers again; insertion and deletion AUC where --insertion-images is the trial's.
    """
    from rich.console import Console

    from gcc_search.fetching import open_trials
    from gcc_search.scoring import Asked
    from gcc_search.scoring import evaluate as evaluate_network

    asked = Asked(
        data_root=data_root,
        dataset=dataset,
        classes=listed_classes(classes),
        split=split,
        insertion_images=insertion_images,
        cose_images=COSE_IMAGES if cose and cose_images is None else cose_images,
        device=device,
        out=out,
        force=force,
    )
    with open_trials([model]) as (place,):
        evaluate_network(place, asked, Console(width=table_width()))


def explain(
    networks: Annotated[list[str], typer.Argument(help="Trials, or exported files; before --images.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Image files, one or more after the other: --images a.jpg b.jpg.")
    ] = None,
    test: Annotated[
        int | None, typer.Option(min=1, help="So many test images instead, the same for every network.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Other heatmaps beside ours, by pytorch-grad-cam: gradcam++,layercam,eigencam,scorecam,..."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The figure: .png, .svg or .pdf.")] = Path("explain.png"),
    data_root: DataRoot = None,
    device: Device = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another file that --out finds in its way.")] = False,
) -> None:
    """Draw images with the heatmaps of a baseline and of trained networks, and how well they move along with the image.

    A row for each network, the baseline of each trial first: M(x), then t(M(x)) beside M(t(x)) with their SSIM, t a
    fixed crop and flip; for test images those of the search, so that the SSIM is images.parquet's consistency. A
    figure holds 24 rows; of more images, the first are shown.
    """
    from rich.console import Console

    from gcc_search.explaining import Wanted, explain_networks
    from gcc_search.fetching import open_trials

    with open_trials(networks, lambda record: [record.baseline] if record.baseline else []) as places:
        wanted = Wanted(
            places=tuple(places),
            files=tuple(images or ()),
            test=test,
            methods=methods,
            out=out,
            data_root=data_root,
            device=device,
            force=force,
        )
        explain_networks(wanted, Console())
