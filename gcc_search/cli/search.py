"""Commands that search here or in a cluster that this machine is part of: search, resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcc_search.cli.options import Address, DataRoot, Download, Format, MaxHours, Out, command_line
from gcc_search.search.addresses import is_client_address

if TYPE_CHECKING:
    from rich.console import Console

    from gcc_search.search.readiness import Prepared


def add_search_commands(app: typer.Typer) -> None:
    for command in (search, resume):
        app.command()(command)


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
    max_hours: MaxHours = None,
    storage: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the Optuna study. Default: study.db.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its estimated cost; train nothing.")
    ] = False,
    address: Address = None,
    form: Format = "text",
) -> None:
    """Run a whole search: baselines and trials side by side, then where to look.

    Exit code: 0 all well or the time is up, 1 it could not run, 2 some networks failed, 130 stopped.
    """
    if is_client_address(address):
        from gcc_search.search.remote import search_remotely

        given = {
            "gpus": gpus,
            "name": name,
            "data-root": None if data_root is None else str(data_root),
            "download": download,
            "weights": weights,
            "run-cap": run_cap,
            "seed": seed,
            "max-hours": max_hours,
            "storage": storage,
            "dry-run": dry_run,
            "format": form,
        }
        raise typer.Exit(search_remotely(space, address=address, out=out, options=given))
    from rich.console import Console

    from gcc_search.space import load_space

    asked = {
        "name": name,
        "data.root": data_root,
        "weights": weights,
        "run_cap": run_cap,
        "seed": seed,
        "max_hours": max_hours,
    }
    overrides = {key: str(value) if isinstance(value, Path) else value for key, value in asked.items()}
    overrides["data.download"] = True if download else None
    checked = load_space(space, {key: value for key, value in overrides.items() if value is not None})

    from gcc_search.search.joining import joined_ray
    from gcc_search.search.submission import check_version
    from gcc_search.storage.mirror import local_folder

    check_version()
    console = Console(stderr=form == "json")
    with joined_ray(address), local_folder(out) as folder:
        # Loads torch: who cannot join a cluster is told so before.
        from gcc_search.search.readiness import SearchOptions, prepare_search

        options = SearchOptions(out=folder, gpus=gpus, storage=storage, command=command_line(), address=address)
        prepared = prepare_search(checked, options, console)
        if dry_run:
            _plan(prepared, console, form)
            return
        _run(prepared, console, form)


def _plan(prepared: Prepared, console: Console, form: str) -> None:
    from gcc_search.search.plan import make_plan, print_plan, to_json

    plan = make_plan(prepared, console)
    print_plan(plan, console)
    if form == "json":
        print(to_json(plan))


def _run(prepared: Prepared, console: Console, form: str) -> None:
    from gcc_search.search.launch import run_search
    from gcc_search.search.summary import print_summary, to_json

    result = run_search(prepared, console)
    print_summary(result, console)
    if form == "json":
        print(to_json(result))
    raise typer.Exit(result.exit_code)


def resume(
    run: Annotated[str, typer.Argument(help="A run, as in runs/shapes or s3://bucket/runs/shapes.")],
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to use; 0: train on the CPU. Default: all.")] = None,
    storage: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the Optuna study. Default: study.db.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data set now, if it moved.")] = None,
    run_cap: Annotated[
        int | None,
        typer.Option(
            help="Trials in all from now on, no fewer than before; those there are count. Not for grid and points."
        ),
    ] = None,
    max_hours: MaxHours = None,
    address: Address = None,
    form: Format = "text",
) -> None:
    """Go on with a search that was stopped: trials that ended are kept, the others go on from their checkpoints.

    One that has ended goes on with --run-cap: its sampler knows of all trials that there are.
    """
    if is_client_address(address):
        from gcc_search.search.remote import resume_remotely

        root = None if data_root is None else str(data_root)
        given = {
            "gpus": gpus,
            "storage": storage,
            "data-root": root,
            "run-cap": run_cap,
            "max-hours": max_hours,
            "format": form,
        }
        raise typer.Exit(resume_remotely(run, address=address, options=given))
    from rich.console import Console

    from gcc_search.results.reader import read_run
    from gcc_search.search.bucket_run import fetch_run
    from gcc_search.search.joining import joined_ray
    from gcc_search.storage.mirror import local_folder

    console = Console(stderr=form == "json")
    with joined_ray(address), local_folder(run) as folder:
        fetch_run(folder)
        from gcc_search.search.readiness import SearchOptions, reopen_search

        options = SearchOptions(
            out=folder.resolve().parent,
            gpus=gpus,
            storage=storage,
            data_root=data_root,
            run_cap=run_cap,
            max_hours=max_hours,
            command=command_line(),
            address=address,
        )
        _run(reopen_search(read_run(folder), options, console), console, form)
