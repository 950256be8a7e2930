"""Keeps one trial's directory while it trains: the record, a row an epoch, the test images, how it ended."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from gcc_search.atomic import remove_file, remove_tree, sha256_of_file, show_life
from gcc_search.errors import DiskFullError, ResultsError, StorageError
from gcc_search.failures import failure_kind, told
from gcc_search.identity import Identity, package_versions
from gcc_search.patience import Contact, patiently
from gcc_search.results.reader import HEATMAPS_FILE, read_trial
from gcc_search.results.schema import CHANGE_NO_NUMBER, EPOCHS, IMAGES, NETWORK_FILE, EpochRow, FailureKind, TrialRecord
from gcc_search.results.tables import read_table
from gcc_search.results.writer import write_epochs, write_heatmaps, write_images, write_trial
from gcc_search.settings import TrialSettings
from gcc_search.training.checkpoint import load_checkpoint
from gcc_search.training.datasets import DataSet
from gcc_search.training.evaluation import Columns
from gcc_search.trial import Ended, Progress

EARLY_STOPPING = "early stopping"
# How often a trial that computes says that it is alive.
BEAT_SECONDS = 2.0
# What a trial leaves beside its checkpoints, and its record, which goes last: alone, a checkpoint is taken for ours.
_FILES = ("epochs.parquet", "images.parquet", HEATMAPS_FILE, NETWORK_FILE, "trial.json")


class Pulse:
    """A sign of life that others see through any shared folder, whatever their clocks say."""

    def __init__(self, path: Path, on_progress: Callable[[Progress], None] | None) -> None:
        self._path, self._on_progress = path, on_progress
        self._last = time.monotonic()

    def beat(self) -> None:
        if time.monotonic() - self._last >= BEAT_SECONDS:
            self._last = time.monotonic()
            # Not written yet, where the disk has been full from the beginning.
            with contextlib.suppress(FileNotFoundError):
                show_life(self._path)

    def on_progress(self, state: Progress) -> None:
        self.beat()
        if self._on_progress is not None:
            self._on_progress(state)


class Keeper:
    """The state of one trial directory while its trial runs; what ends its body is recorded and goes on."""

    def __init__(
        self,
        settings: TrialSettings,
        folder: Path,
        identity: Identity,
        device: torch.device,
        contact: Contact,
        failures: Sequence[FailureKind],
    ) -> None:
        self._folder, self._contact = folder, contact
        self._started = time.monotonic()
        before = _previous(folder)
        known = max(before.failures if before else [], list(failures), key=len)
        self._rows = _rows_to_keep(folder, contact)
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
            attempts=max(before.attempts if before else 0, len(failures)) + 1,
            threads=torch.get_num_threads(),
            failures=known,
            data_fingerprint="",
            versions=package_versions([settings.network]),
        )
        self._patiently(write_trial, self._record)

    @property
    def rows(self) -> tuple[EpochRow, ...]:
        """Those so far."""
        return tuple(self._rows)

    def begin(self, data: DataSet) -> None:
        self._update(data_fingerprint=data.fingerprint)

    def add_epoch(self, row: EpochRow) -> None:
        self._rows.append(row)
        self._patiently(write_epochs, self._rows)
        self._update(epochs_done=row.epoch, validation=_finite(row.to_dict()))

    def finish(self, ended: Ended, data: DataSet, *, baseline_epochs: int | None) -> None:
        """`baseline_epochs`: see `TrialRecord`."""
        if ended.columns is not None:
            self._patiently(write_images, image_columns(ended.columns, data.test.names))
        if ended.examples is not None:
            self._patiently(write_heatmaps, ended.examples)
        network = self._folder / NETWORK_FILE
        digest = sha256_of_file(network) if network.exists() else None
        self._update(
            status=ended.status,
            reason=ended.reason,
            test=ended.summary,
            network_sha256=digest,
            baseline_epochs=baseline_epochs,
        )
        remove_tree(self._folder / "checkpoint")

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GeneratorExit):
            self._close("stopped", EARLY_STOPPING)
            # Stopped for good: nothing will go on from its state.
            remove_tree(self._folder / "checkpoint")
        elif isinstance(error, KeyboardInterrupt):
            self._close("interrupted", "stopped by the user")
        elif isinstance(error, Exception):
            self._fail(error)

    def _close(self, status: str, reason: str) -> None:
        if self._record.status == "running":
            self._update(status=status, reason=reason)

    def _fail(self, error: Exception) -> None:
        if self._record.status != "running":
            return
        failures = [*self._record.failures, failure_kind(error)]
        if isinstance(error, (DiskFullError, StorageError)):
            # It has waited long enough: what cannot be recorded is told by the error itself.
            with contextlib.suppress(DiskFullError, StorageError):
                write_trial(self._folder, self._changed(status="failed", reason=told(error), failures=failures))
        else:
            self._update(status="failed", reason=told(error), failures=failures)

    def _update(self, **changes: Any) -> None:
        self._record = self._changed(**changes)
        self._patiently(write_trial, self._record)

    def _changed(self, **changes: Any) -> TrialRecord:
        seconds = self._seconds_before + time.monotonic() - self._started
        return replace(self._record, updated=_now(), device_seconds=seconds, **changes)

    def _patiently(self, write: Callable[[Path, Any], None], content: Any) -> None:
        patiently(functools.partial(write, self._folder, content), self._contact)


def image_columns(columns: Columns, names: Sequence[str]) -> dict[str, Any]:
    """What `write_images` writes: the measures of the images called `names`."""
    arrays: dict[str, Any] = {name: values.numpy() for name, values in columns.items()}
    return {"name": list(names)} | {name: arrays[name] for name in IMAGES.names if name != "name"}


def discard_anothers(settings: TrialSettings, folder: Path, contact: Contact) -> None:
    """Empties `folder` where its record is of other settings: nothing there is to be gone on with as ours."""
    before = _previous(folder)
    if before is None or decisive(before.settings) == decisive(settings.model_dump(mode="json")):
        return
    contact.tell("begins anew: what lay under its name was trained with other settings")
    remove_tree(folder / "checkpoint")
    for name in _FILES:
        remove_file(folder / name)


def decisive(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Settings that change a number, of any version that had no others; None where this version does not know them.

    Images move, and so do files of weights; that the images are the same is seen by their fingerprint.
    """
    try:
        full = TrialSettings.model_validate(settings).model_dump(mode="json")
    except ValidationError:
        return None
    data = {name: value for name, value in full["data"].items() if name not in ("root", "download")}
    kept = {name: value for name, value in full.items() if name not in CHANGE_NO_NUMBER}
    return kept | {"data": data, "weights": Path(full["weights"]).name}


def _previous(folder: Path) -> TrialRecord | None:
    try:
        return read_trial(folder).record
    except ResultsError:
        # None yet, or a torn one, which says nothing about the files beside it: they carry their own digests.
        return None


def _rows_to_keep(folder: Path, contact: Contact) -> list[EpochRow]:
    """The rows up to the last whole checkpoint; where some are missing, the checkpoints go and training begins anew."""
    checkpoint = load_checkpoint(folder / "checkpoint")
    if checkpoint is None:
        if any(folder.glob("checkpoint/epoch-*")):
            contact.tell(f"begins anew: no checkpoint in {folder}/checkpoint is whole")
        return []
    for refused in checkpoint.refused:
        contact.tell(f"not used: {refused} is torn or unreadable; goes on from the one after epoch {checkpoint.epoch}")
    rows = [row for row in _read_rows(folder) if row.epoch <= checkpoint.epoch]
    if len(rows) < checkpoint.epoch:
        contact.tell(f"begins anew: {folder}/epochs.parquet is missing or torn")
        remove_tree(folder / "checkpoint")
        return []
    return rows


def _read_rows(folder: Path) -> list[EpochRow]:
    try:
        return [EpochRow(**row) for row in read_table(folder / "epochs.parquet", EPOCHS).to_pylist()]
    except ResultsError:
        # Missing or torn: the epochs it told of are trained again.
        return []


def _finite(values: dict[str, float | None]) -> dict[str, float | None]:
    # JSON has no NaN; a diverged trial's loss is told by its status.
    return {name: value if value is None or abs(value) < float("inf") else None for name, value in values.items()}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
