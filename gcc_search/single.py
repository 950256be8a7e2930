"""`gcc-search train`: one trial on this machine with a progress bar, without Ray."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gcc_search import trial
from gcc_search.broken_off import check_same_images, goes_on
from gcc_search.errors import ResultsError, WeightsError
from gcc_search.identity import Identity, package_versions, start_key
from gcc_search.patience import check_limit
from gcc_search.preparation import DataSet, check_network, choose_device, describe_images, prepare_images
from gcc_search.recording import record_trial
from gcc_search.repeating import Original
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import EpochRow, RunRecord, Status
from gcc_search.results.writer import write_run
from gcc_search.saying import say
from gcc_search.settings import NAME_PATTERN, Recipe, TrialSettings
from gcc_search.storage.mirror import mirror_of
from gcc_search.trial import Ended


def train_one(
    settings: TrialSettings,
    *,
    out: Path,
    name: str | None,
    device: str | None,
    command: str,
    like: Original | None = None,
) -> tuple[Path, Status]:
    """Trains `settings` into OUT/NAME, and prints a row an epoch and the test measures.

    A run there of the same settings that was broken off goes on from its last epoch.

    Args:
        like: the trial that `settings` are from; it is repeated under its own id, beside its own baseline.

    Returns:
        The run's folder, and how the network has ended.

    Raises:
        ResultsError: another run of the name, one that has ended, or that another process trains.
        SpaceError, DataError, WeightsError, ResourceError: see `run_trial` and `check_network`; nothing is left behind.
    """
    console = Console()
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        rule = "must be 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first"
        raise ResultsError(f"--name: {rule}, got {name!r}; the folder around it is --out")
    run = out / (name or _name_of(settings))
    identity = Identity(id=settings.network) if like is None else like.identity
    folder = run / "trials" / identity.id
    is_old = goes_on(run, identity.id, settings)
    check_limit()
    chosen = choose_device(device)
    if settings.weights == "baseline":
        raise WeightsError("weights: must be a file, none or a torchvision name, got baseline; that goes with a search")
    data = prepare_images(settings.data, settings.recipe.image_size, console)
    if like is not None:
        like.check_images(data.fingerprint)
        # As it was trained: with other threads sums are in another order.
        torch.set_num_threads(like.threads or torch.get_num_threads())
    # A trial's start network was looked at when the trial was read, and is copied to where it will be found.
    if start_key(settings.weights) is None:
        check_network(settings, data, is_new=like is None)
    if is_old:
        check_same_images(run, data.fingerprint)
        say(console, f"goes on with {run}")
    else:
        write_run(run, _run_record(settings, data, run, command))
    if like is not None:
        like.copy_needs(run)
    try:
        _train(settings, folder, identity, chosen, console)
    except KeyboardInterrupt:
        if mirror_of(run) is None:
            say(console, f"go on:   {command}")
        raise
    say(console, f"results: {folder}")
    return run, read_trial(folder).record.status


def _train(settings: TrialSettings, folder: Path, identity: Identity, device: torch.device, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=settings.recipe.epochs + 1)

        def on_progress(state: trial.Progress) -> None:
            # The test split counts as one epoch more, validation as the last tenth of its own.
            share = state.done / max(1, state.total)
            done = {"train": state.epoch - 1 + 0.9 * share, "validate": state.epoch - 0.1 + 0.1 * share}
            completed = done.get(state.phase, settings.recipe.epochs + share)
            bar.update(task, completed=completed, description=f"{state.phase} {state.epoch}/{settings.recipe.epochs}")

        tell = functools.partial(say, bar.console)
        events = record_trial(
            settings, folder, identity, device=device, is_alone=True, on_progress=on_progress, on_notice=tell
        )
        try:
            for event in events:
                tell(_told(event))
        except BaseException as stop:
            # Between two events the record has not heard of it, and would take the end for early stopping's.
            with contextlib.suppress(BaseException):
                events.throw(stop)
            raise


def _name_of(settings: TrialSettings) -> str:
    asked, lr, seed = settings.explanation, settings.recipe.lr, settings.seed
    name = f"{settings.data.name}-{settings.network}-a{asked.alpha:g}-b{asked.beta:g}-p{asked.p:g}"
    # What else of the explanation was asked for: words speak for themselves, numbers do not.
    others = asked.model_dump(exclude_defaults=True, exclude={"alpha", "beta", "p"})
    name += "".join(f"-{value}" if isinstance(value, str) else f"-{key}{value:g}" for key, value in others.items())
    name += f"-lr{lr:g}" if lr != Recipe().lr else ""
    return name + (f"-seed{seed}" if seed else "")


def _run_record(settings: TrialSettings, data: DataSet, run: Path, command: str) -> RunRecord:
    return RunRecord(
        name=run.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        space={"metrics": [], "constraints": [], "single": settings.model_dump(mode="json")},
        seed=settings.seed,
        data=[describe_images(settings.recipe.image_size, data)],
        versions=package_versions([settings.network]),
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
