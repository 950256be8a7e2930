"""`gcc-search train`: one trial on this machine with a progress bar, without Ray."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gcc_search import trial
from gcc_search.errors import ResourceError, ResultsError, WeightsError
from gcc_search.preparation import check_weights, prepare_images, say
from gcc_search.recording import Identity, package_versions, record_trial
from gcc_search.results.schema import EpochRow, RunRecord
from gcc_search.results.writer import write_run
from gcc_search.settings import NAME_PATTERN, TrialSettings
from gcc_search.trial import Ended


def train_one(settings: TrialSettings, *, out: Path, name: str | None, device: str | None, command: str) -> Path:
    """Trains `settings` into OUT/NAME, prints a row an epoch and the test measures, and returns the run's folder.

    Raises:
        ResultsError: the run exists. DataError, WeightsError, ResourceError: see `run_trial`; nothing is left behind.
    """
    console = Console()
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        rule = "must be 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first"
        raise ResultsError(f"--name: {rule}, got {name!r}; the folder around it is --out")
    run = out / (name or _name_of(settings))
    if run.exists():
        raise ResultsError(f"{run}: must be a new name, got one that exists; choose another with --name, or remove it")
    chosen = _choose_device(device)
    if settings.weights == "baseline":
        raise WeightsError("weights: must be a file, none or a torchvision name, got baseline; that goes with a search")
    data = prepare_images(settings.data, settings.recipe.image_size, console)
    check_weights(settings, data)
    write_run(run, _run_record(settings, run, command))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=settings.recipe.epochs + 1)

        def on_progress(state: trial.Progress) -> None:
            # The test split counts as one epoch more, validation as the last tenth of its own.
            share = state.done / max(1, state.total)
            done = {"train": state.epoch - 1 + 0.9 * share, "validate": state.epoch - 0.1 + 0.1 * share}
            completed = done.get(state.phase, settings.recipe.epochs + share)
            bar.update(task, completed=completed, description=f"{state.phase} {state.epoch}/{settings.recipe.epochs}")

        folder, identity = run / "trials" / settings.network, Identity(id=settings.network)
        for event in record_trial(settings, folder, identity, device=chosen, on_progress=on_progress):
            say(bar.console, _told(event))
    say(console, f"results: {run}")
    return run


def _name_of(settings: TrialSettings) -> str:
    asked = settings.explanation
    return f"{settings.data.name}-{settings.network}-a{asked.alpha:g}-b{asked.beta:g}-p{asked.p:g}"


def _choose_device(asked: str | None) -> torch.device:
    if asked not in (None, "cpu", "cuda"):
        raise ResourceError(f"--device: must be cpu or cuda, got {asked}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise ResourceError("--device: must be cpu, got cuda on a machine without a GPU that torch can use")
    return torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))


def _run_record(settings: TrialSettings, run: Path, command: str) -> RunRecord:
    return RunRecord(
        name=run.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        space={"metrics": [], "constraints": [], "single": settings.model_dump(mode="json")},
        seed=settings.seed,
        versions=package_versions(),
        host=socket.gethostname(),
    )


_SHOWN = ("accuracy_points", "consistency", "corrected_consistency", "correlation", "gini", "iauc", "dauc", "box_mass")


def _told(event: EpochRow | Ended) -> str:
    values = event.to_dict() if isinstance(event, EpochRow) else event.summary or {}
    measured = "  ".join(f"{name} {value:.3f}" for name in _SHOWN if (value := values.get(name)) is not None)
    if isinstance(event, EpochRow):
        return f"epoch {event.epoch}: loss {event.loss:.4f}  {measured}  ({event.train_seconds:.0f} s)"
    reason = f" ({event.reason})" if event.reason else ""
    return f"{event.status}{reason}" + (f"; test: {measured}" if measured else "")
