"""Runs a trial and keeps its directory: the record, a row an epoch, the test images, the network.

Its worker alone writes it.
"""

from __future__ import annotations

import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gcc_search.atomic import sha256_of_file
from gcc_search.errors import ResultsError, WeightsError
from gcc_search.occupancy import only_writer
from gcc_search.results.reader import network_problem, read_table, read_trial
from gcc_search.results.schema import EPOCHS, IMAGES, NETWORK_FILE, EpochRow, Role, TrialRecord
from gcc_search.results.writer import write_epochs, write_heatmaps, write_images, write_trial
from gcc_search.settings import TrialSettings
from gcc_search.training.checkpoint import load_checkpoint
from gcc_search.training.datasets import DataSet
from gcc_search.training.evaluation import Columns
from gcc_search.trial import Ended, Progress, Surroundings, open_dataset, run_trial

# `weights: start:KEY` names the network of baselines/KEY in the same run, so that a run directory can be moved.
START = "start:"
EARLY_STOPPING = "early stopping"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a trial is in its run. `baseline` is a folder name below baselines/, None for baselines themselves."""

    id: str
    role: Role = "trial"
    sampled: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None


def record_trial(
    settings: TrialSettings,
    folder: Path,
    identity: Identity,
    *,
    device: torch.device,
    on_progress: Callable[[Progress], None] | None = None,
) -> Iterator[EpochRow | Ended]:
    """`run_trial`, with `folder` kept up to date. Goes on from the folder's last good checkpoint, if there is one.

    Closing the iterator records the trial as stopped early. An exception is recorded (interrupted, failed) and raised.

    Raises:
        ResultsError: the folder cannot be written to, another process writes there, or the baseline it is compared to
            is torn.
        DataError, WeightsError: see `run_trial`.
    """
    with only_writer(folder):
        yield from _record(settings, folder, identity, device, on_progress)


def _record(
    settings: TrialSettings,
    folder: Path,
    identity: Identity,
    device: torch.device,
    on_progress: Callable[[Progress], None] | None,
) -> Iterator[EpochRow | Ended]:
    keeper = _Keeper(settings, folder, identity, device)
    try:
        data = open_dataset(settings.data, settings.recipe.image_size)
        keeper.begin(data)
        surroundings = Surroundings(
            device=device,
            reference=_reference(folder, identity),
            checkpoints=folder / "checkpoint",
            weights_file=folder / NETWORK_FILE,
            on_progress=on_progress,
        )
        for event in run_trial(_resolve_weights(settings, folder), surroundings):
            if isinstance(event, EpochRow):
                keeper.add_epoch(event)
            else:
                keeper.finish(event, data)
            yield event
    except GeneratorExit:
        keeper.close("stopped", EARLY_STOPPING)
        # Stopped for good: nothing will go on from its state.
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        raise
    except KeyboardInterrupt:
        keeper.close("interrupted", "stopped by the user")
        raise
    except Exception as error:
        keeper.close("failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        raise


class _Keeper:
    """The state of one trial directory while its trial runs."""

    def __init__(self, settings: TrialSettings, folder: Path, identity: Identity, device: torch.device) -> None:
        self._folder = folder
        self._started = time.monotonic()
        before = _previous(folder)
        self._rows = _rows_to_keep(folder)
        self._seconds_before = before.device_seconds if before else 0.0
        self._record = TrialRecord(
            id=identity.id,
            role=identity.role,
            status="running",
            reason=None,
            network=settings.network,
            settings=settings.model_dump(mode="json"),
            sampled=identity.sampled,
            baseline=identity.baseline,
            node=socket.gethostname(),
            device=_device_name(device),
            started=before.started if before else _now(),
            updated=_now(),
            device_seconds=self._seconds_before,
            epochs_done=len(self._rows),
            validation=_finite(self._rows[-1].to_dict()) if self._rows else None,
            attempts=before.attempts + 1 if before else 1,
            data_fingerprint="",
            versions=package_versions(),
        )
        write_trial(folder, self._record)

    def begin(self, data: DataSet) -> None:
        self._update(data_fingerprint=data.fingerprint)

    def add_epoch(self, row: EpochRow) -> None:
        self._rows.append(row)
        write_epochs(self._folder, self._rows)
        self._update(epochs_done=row.epoch, validation=_finite(row.to_dict()))

    def finish(self, ended: Ended, data: DataSet) -> None:
        if ended.columns is not None:
            write_images(self._folder, _image_columns(ended.columns, data))
        if ended.examples is not None:
            write_heatmaps(self._folder, ended.examples)
        network = self._folder / NETWORK_FILE
        digest = sha256_of_file(network) if network.exists() else None
        self._update(status=ended.status, reason=ended.reason, test=ended.summary, network_sha256=digest)
        shutil.rmtree(self._folder / "checkpoint", ignore_errors=True)

    def close(self, status: str, reason: str) -> None:
        if self._record.status == "running":
            self._update(status=status, reason=reason)

    def _update(self, **changes: Any) -> None:
        seconds = self._seconds_before + time.monotonic() - self._started
        self._record = replace(self._record, updated=_now(), device_seconds=seconds, **changes)
        write_trial(self._folder, self._record)


def package_versions() -> dict[str, str]:
    """Versions of what decides a trial's numbers."""
    names = ("gcc-search", "torch", "torchvision", "kornia")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _previous(folder: Path) -> TrialRecord | None:
    try:
        return read_trial(folder).record
    except ResultsError:
        # None yet, or a torn one, which says nothing about the files beside it: they carry their own digests.
        return None


def _rows_to_keep(folder: Path) -> list[EpochRow]:
    """The rows up to the last whole checkpoint; where some are missing, the checkpoints go and training begins anew."""
    checkpoint = load_checkpoint(folder / "checkpoint")
    rows = [] if checkpoint is None else [row for row in _read_rows(folder) if row.epoch <= checkpoint.epoch]
    if checkpoint is not None and len(rows) < checkpoint.epoch:
        shutil.rmtree(folder / "checkpoint")
        return []
    return rows


def _read_rows(folder: Path) -> list[EpochRow]:
    try:
        return [EpochRow(**row) for row in read_table(folder / "epochs.parquet", EPOCHS).to_pylist()]
    except ResultsError:
        # Missing or torn: the epochs it told of are trained again.
        return []


def _reference(folder: Path, identity: Identity) -> tuple[float, ...]:
    if identity.baseline is None:
        return ()
    baseline = read_trial(folder.parent.parent / "baselines" / identity.baseline)
    return tuple(baseline.epochs(["accuracy_points"])["accuracy_points"].to_pylist())


def _resolve_weights(settings: TrialSettings, folder: Path) -> TrialSettings:
    if not settings.weights.startswith(START):
        return settings
    start = read_trial(folder.parent.parent / "baselines" / settings.weights.removeprefix(START))
    if problem := network_problem(start):
        raise WeightsError(problem)
    return settings.model_copy(update={"weights": str(start.folder / NETWORK_FILE)})


def _image_columns(columns: Columns, data: DataSet) -> dict[str, Any]:
    arrays: dict[str, Any] = {name: values.numpy() for name, values in columns.items()}
    return {"name": list(data.test.names)} | {name: arrays[name] for name in IMAGES.names if name != "name"}


def _finite(values: dict[str, float | None]) -> dict[str, float | None]:
    # JSON has no NaN; a diverged trial's loss is told by its status.
    return {name: value if value is None or abs(value) < float("inf") else None for name, value in values.items()}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
