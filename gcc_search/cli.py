"""The command line: arguments -> one call -> exit code. Heavy imports stand inside the commands."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from gcc_search import __version__
from gcc_search.cli_jobs import add_job_commands
from gcc_search.errors import GccSearchError, SpaceError

if TYPE_CHECKING:
    from rich.console import Console

    from gcc_search.search.readiness import Prepared


PIPE_WIDTH = 110


class _SearchByDefault(TyperGroup):
    """`gcc-search --space FILE` is `gcc-search search --space FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version"):
            args = ["search", *args]
        return super().parse_args(ctx, args)


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


app = typer.Typer(
    cls=_SearchByDefault,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search alpha, beta and p for image classifiers whose Grad-CAM explanations are consistent and sparse.\n\n"
    "gcc-search --space FILE --gpus N is short for gcc-search search --space FILE --gpus N.",
)


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 1."""
    # A cluster's scheduler asks with SIGTERM what a person asks with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except GccSearchError as error:
        for line in str(error).splitlines():
            print(f"gcc-search: {line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("gcc-search: stopped", file=sys.stderr)
        sys.exit(130)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"gcc-search {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Options before a command."""


def _command_line() -> str:
    return shlex.join(["gcc-search", *sys.argv[1:]])


# Text, not Path: two slashes of a URL are two.
Runs = Annotated[
    list[str],
    typer.Argument(help="Runs, as in runs/shapes or s3://bucket/runs/shapes; several are read together."),
]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds the data set; overrides data.root.")]
Out = Annotated[str, typer.Option(help="Folder of the runs, or s3://bucket/prefix, gs://bucket/prefix.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda. Default: cuda where there is one.")]
Format = Annotated[
    Literal["text", "json"], typer.Option("--format", help="json: a summary on stdout, all else on stderr.")
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join: auto (the one this machine is part of) or HOST:PORT. Default: none."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a missing data set, where there is internet.")]


@app.command()
def search(
    space: Annotated[Path, typer.Option(help="Search-space file; examples are in search_spaces/.")],
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to use; 0: train on the CPU. Default: all.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; overrides name.")] = None,
    out: Out = "runs",
    data_root: DataRoot = None,
    download: Download = False,
    weights: Annotated[str | None, typer.Option(help="none, a torchvision name or a file to start from.")] = None,
    run_cap: Annotated[int | None, typer.Option(help="Trials in all; overrides run_cap.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides seed.")] = None,
    storage: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the Optuna study. Default: study.db.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its estimated cost; train nothing.")
    ] = False,
    address: Address = None,
    form: Format = "text",
) -> None:
    """Run a whole search: baselines, then trials, then where to look.

    Exit code: 0 all well, 1 it could not run, 2 some trials failed, 130 stopped.
    """
    from rich.console import Console

    from gcc_search.space import load_space

    asked = {"name": name, "data.root": data_root, "weights": weights, "run_cap": run_cap, "seed": seed}
    overrides = {key: str(value) if isinstance(value, Path) else value for key, value in asked.items()}
    overrides["data.download"] = True if download else None
    checked = load_space(space, {key: value for key, value in overrides.items() if value is not None})

    from gcc_search.search.joining import joined_ray
    from gcc_search.search.readiness import SearchOptions, prepare_search
    from gcc_search.search.submission import check_version
    from gcc_search.storage.mirror import local_folder

    check_version()
    console = Console(stderr=form == "json")
    with joined_ray(address), local_folder(out) as folder:
        options = SearchOptions(out=folder, gpus=gpus, storage=storage, command=_command_line(), address=address)
        prepared = prepare_search(checked, options, console)
        if dry_run:
            from gcc_search.search.plan import print_plan

            print_plan(prepared, console)
            return
        _run(prepared, console, form)


def _run(prepared: Prepared, console: Console, form: str) -> None:
    from gcc_search.search.launch import run_search
    from gcc_search.search.summary import print_summary, to_json

    result = run_search(prepared, console)
    print_summary(result, console)
    if form == "json":
        print(to_json(result))
    raise typer.Exit(result.exit_code)


@app.command()
def resume(
    run: Annotated[str, typer.Argument(help="A run, as in runs/shapes or s3://bucket/runs/shapes.")],
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to use; 0: train on the CPU. Default: all.")] = None,
    storage: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the Optuna study. Default: study.db.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data set now, if it moved.")] = None,
    address: Address = None,
    form: Format = "text",
) -> None:
    """Go on with a search that was stopped: trials that ended are kept, the others go on from their checkpoints."""
    from rich.console import Console

    from gcc_search.results.reader import read_run
    from gcc_search.search.bucket_run import fetch_run
    from gcc_search.search.joining import joined_ray
    from gcc_search.search.readiness import SearchOptions, reopen_search
    from gcc_search.storage.mirror import local_folder

    console = Console(stderr=form == "json")
    with joined_ray(address), local_folder(run) as folder:
        fetch_run(folder)
        options = SearchOptions(
            out=folder.resolve().parent,
            gpus=gpus,
            storage=storage,
            data_root=data_root,
            command=_command_line(),
            address=address,
        )
        _run(reopen_search(read_run(folder), options, console), console, form)


@app.command()
def train(
    context: typer.Context,
    dataset: Annotated[str | None, typer.Option(help="shapes, caltech101, cub200 or imagefolder.")] = None,
    model: Annotated[str | None, typer.Option(help="resnet18, resnet50, convnext_tiny or convnet_small.")] = None,
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
    classes: Annotated[str | None, typer.Option(help="Only these classes, separated by commas.")] = None,
    lr: Annotated[float, typer.Option(help="Learning rate of SGD.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    image_size: Annotated[int, typer.Option(help="Side of the images as the network sees them, pixels.")] = 224,
    insertion_images: Annotated[int, typer.Option(help="Test images for insertion and deletion AUC.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Device = None,
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: made from the settings.")] = None,
    out: Out = "runs",
    data_root: DataRoot = None,
    download: Download = False,
) -> None:
    """Train one network with L = L_CE + alpha L_C + beta L_S, with a progress bar. Needs no Ray.

    --like TRIAL repeats a trial of a search, to its end, beside copies of its baseline and of the network that it
    started from, with as many threads; equal rows on an equal machine. It goes with --device, --name, --out,
    --data-root and --download only.
    """
    if like is not None:
        _check_no_settings(context)
        from gcc_search.fetching import open_trials
        from gcc_search.repeating import needs_of, read_original
        from gcc_search.single import train_one
        from gcc_search.storage.mirror import local_folder

        with open_trials([like], needs_of) as (folder,), local_folder(out) as runs:
            original = read_original(folder, data_root=data_root, download=download)
            train_one(original.settings, out=runs, name=name, device=device, command=_command_line(), like=original)
        return
    if dataset is None or model is None:
        missing = "--dataset" if dataset is None else "--model"
        raise SpaceError(f"{missing}: must be given, or --like with a trial to repeat; see gcc-search train --help")

    from gcc_search.single import train_one
    from gcc_search.space import check_settings
    from gcc_search.storage.mirror import local_folder

    settings = check_settings(
        {
            "network": model,
            "weights": weights,
            "data": {
                "name": dataset,
                "root": data_root,
                "classes": classes.split(",") if classes else None,
                "download": download,
            },
            "recipe": {"epochs": epochs, "lr": lr, "batch_size": batch_size, "image_size": image_size},
            "explanation": {"alpha": alpha, "beta": beta, "p": p, "distance": distance},
            "evaluation": {"insertion_images": insertion_images},
            "seed": seed,
        }
    )
    with local_folder(out) as runs:
        train_one(settings, out=runs, name=name, device=device, command=_command_line())


_BESIDE_LIKE = ("like", "device", "name", "out", "data_root", "download")


def _check_no_settings(context: typer.Context) -> None:
    given = [
        f"--{parameter.replace('_', '-')}"
        for parameter in context.params
        if parameter not in _BESIDE_LIKE and _is_given(context, parameter)
    ]
    if given:
        raise SpaceError(f"--like: must stand without {', '.join(given)}; the trial's own settings are used")


def _is_given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


@app.command()
def analyze(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the figures. Default: RUN/analysis; ./analysis-NAME for a run in a bucket."),
    ] = None,
    compare: Annotated[str | None, typer.Option(help="paper: its published numbers beside the run's.")] = None,
) -> None:
    """Draw frontier, accuracy tradeoffs and effects, and print the best feasible trials against the baseline."""
    from rich.console import Console

    from gcc_search.analysis.report import analyze as analyze_run
    from gcc_search.analysis.report import print_analysis
    from gcc_search.analysis.stages import show_stages
    from gcc_search.fetching import READ, figures_folder, open_runs

    # A pipe has no width of its own, and the tables need more than the 80 that rich takes it for.
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with open_runs(runs, READ) as folders:
        with show_stages(console) as tell:
            analysis = analyze_run(folders, out or figures_folder(runs), tell, compare=compare)
        print_analysis(analysis, console)


@app.command()
def recommend(
    runs: Runs,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=0, help="Points of validation accuracy that may be lost. Default: no limit.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Only trials of this network.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write its network to this .safetensors file, for evaluate and explain; a card lies beside."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that --export finds in its way.")] = False,
) -> None:
    """Name the trial to use, and say why: the highest C* among those that keep the constraints and the accuracy.

    The validation split decides, the test split is reported. Exit code 1 where no trial qualifies.
    """
    from rich.console import Console

    from gcc_search.analysis.recommendation import Wish
    from gcc_search.analysis.recommendation import recommend as recommend_trial
    from gcc_search.analysis.recommendation_text import print_recommendation
    from gcc_search.analysis.several import read_runs
    from gcc_search.fetching import READ, open_runs

    if export is not None:
        from gcc_search.exporting import check_target

        check_target(export, force=force)
    wish = Wish(max_accuracy_drop=max_accuracy_drop, network=network)
    with open_runs(runs, READ) as folders:
        found = recommend_trial(read_runs(folders), wish)
        print_recommendation(found, wish, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH))
        if export is not None:
            from gcc_search.exporting import export_recommended

            model, card = export_recommended(found, wish, export)
            print(f"\nwrote {model} and {card}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A trial, or a file that recommend --export wrote.")],
    data_root: DataRoot = None,
    dataset: Annotated[str | None, typer.Option(help="Other images: shapes, caltech101, cub200, imagefolder.")] = None,
    classes: Annotated[str | None, typer.Option(help="Only these classes, separated by commas.")] = None,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    insertion_images: Annotated[
        int | None, typer.Option(help="Images for insertion and deletion AUC. Default: as the trial had.")
    ] = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="Write the measures of each image to this Parquet file.")] = None,
) -> None:
    """Measure a trained network on a split of the images it was searched with, or of others of the same classes.

    Prints means with standard errors. The fixed transforms are those of the search: on the CPU, a trial's own test
    split gives the trial's own numbers again.
    """
    from rich.console import Console

    from gcc_search.fetching import open_trials
    from gcc_search.scoring import Asked
    from gcc_search.scoring import evaluate as evaluate_network

    asked = Asked(
        data_root=data_root,
        dataset=dataset,
        classes=tuple(classes.split(",")) if classes else None,
        split=split,
        insertion_images=insertion_images,
        device=device,
        out=out,
    )
    with open_trials([model]) as (place,):
        evaluate_network(place, asked, Console(width=None if sys.stdout.isatty() else PIPE_WIDTH))


@app.command(cls=_ImagesInARow)
def explain(
    networks: Annotated[
        list[str], typer.Argument(help="Trials, or files that recommend --export wrote; before --images.")
    ],
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
        )
        explain_networks(wanted, Console())


add_job_commands(app)
