"""Commands that talk to a cluster from elsewhere: submit, logs, status, stop, list. One call each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gcc_search.cli.options import MaxHours
from gcc_search.search.addresses import DASHBOARD

Address = Annotated[
    str,
    typer.Option(help="The cluster's dashboard, as forwarded to this machine by ray dashboard or ssh -L."),
]
Job = Annotated[str, typer.Argument(help="The job's id, as submit printed it and list shows it.")]


def add_job_commands(app: typer.Typer) -> None:
    for command in (submit, logs, status, stop):
        app.command()(command)
    app.command("list")(list_searches)


def submit(
    space: Annotated[Path, typer.Option(help="Search-space file of this machine; it is sent along.")],
    out: Annotated[str, typer.Option(help="Folder of the runs on the cluster, or a bucket: s3://BUCKET/FOLDER.")],
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to use; 0: train on the CPU. Default: all.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; overrides name.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Folder of the data set on the cluster's machines.")] = None,
    weights: Annotated[str | None, typer.Option(help="none, a torchvision name or a file on the cluster.")] = None,
    run_cap: Annotated[int | None, typer.Option(help="Trials in all; overrides run_cap.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides seed.")] = None,
    max_hours: MaxHours = None,
    address: Address = DASHBOARD,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and return at once.")] = False,
) -> None:
    """Hand a search to a cluster, and watch it. It runs on when this machine is closed or Ctrl-C ends the watching.

    Exit code: the search's own, as of gcc-search --space.
    """
    from gcc_search.search.job_client import JobClient
    from gcc_search.search.submission import make_submission
    from gcc_search.search.submission import submit as submit_search

    asked = {
        "gpus": gpus,
        "name": name,
        "data-root": data_root,
        "weights": weights,
        "run-cap": run_cap,
        "seed": seed,
        "max-hours": max_hours,
    }
    submission = make_submission(space, out=out, options=asked)
    job = submit_search(submission, JobClient(address))
    print(f"submitted: {job}; results: {submission.results}", flush=True)
    if not detach:
        _follow(job, address)


def _follow(job: str, address: str) -> NoReturn:
    from rich.console import Console

    from gcc_search.search.following import follow
    from gcc_search.search.job_client import JobClient

    try:
        code = follow(job, JobClient(address), Console())
    except KeyboardInterrupt:
        print(f"the search goes on; watch it: gcc-search logs {job} --follow; end it: gcc-search stop {job}")
        code = 0
    raise typer.Exit(code)


def logs(
    job: Job,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the search ends, with its live table.")] = False,
    address: Address = DASHBOARD,
) -> None:
    """Print what a search has printed."""
    from rich.console import Console

    from gcc_search.search.following import print_logs
    from gcc_search.search.job_client import JobClient

    if follow:
        _follow(job, address)
    print_logs(job, JobClient(address), Console())


def status(job: Job, address: Address = DASHBOARD) -> None:
    """Print whether a search runs, since when, and where its results are."""
    from rich.console import Console

    from gcc_search.search.following import print_status
    from gcc_search.search.job_client import JobClient

    print_status(job, JobClient(address), Console())


def stop(job: Job, address: Address = DASHBOARD) -> None:
    """Stop a search as Ctrl-C would: what was running is recorded, and gcc-search resume goes on with it."""
    from gcc_search.search.following import stop as stop_search
    from gcc_search.search.job_client import JobClient

    print(f"{job}: {stop_search(job, JobClient(address))}")


def list_searches(address: Address = DASHBOARD) -> None:
    """List the searches of a cluster, the latest first."""
    from rich.console import Console

    from gcc_search.search.following import print_list
    from gcc_search.search.job_client import JobClient

    print_list(JobClient(address), Console())
