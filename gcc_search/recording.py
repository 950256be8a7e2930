"""Runs a trial and keeps its directory: the record, a row an epoch, the test images, the network.

Its worker alone writes it.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from gcc_search.atomic import remove_leftovers, remove_tree, sha256_of_file, show_life
from gcc_search.complaints import explain_error
from gcc_search.errors import DataError, DiskFullError, ResultsError, StorageError, WeightsError
from gcc_search.failures import failure_kind, told
from gcc_search.occupancy import only_writer
from gcc_search.patience import UNHEARD, Contact, patiently
from gcc_search.results.reader import Trial, find_damage, network_problem, read_table, read_trial
from gcc_search.results.schema import EPOCHS, IMAGES, NETWORK_FILE, EpochRow, FailureKind, Role, TrialRecord
from gcc_search.results.writer import write_epochs, write_heatmaps, write_images, write_trial
from gcc_search.settings import TrialSettings
from gcc_search.training.checkpoint import load_checkpoint
from gcc_search.training.datasets import DataSet
from gcc_search.training.evaluation import Columns
from gcc_search.trial import Ended, Progress, Surroundings, open_dataset, run_trial

# `weights: start:KEY` names the network of baselines/KEY in the same run, so that a run directory can be moved.
START = "start:"
EARLY_STOPPING = "early stopping"
# How often a trial that computes says that it is alive.
BEAT_SECONDS = 2.0


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
    fingerprint: str | None = None,
    failures: Sequence[FailureKind] = (),
    on_progress: Callable[[Progress], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Iterator[EpochRow | Ended]:
    """`run_trial`, with `folder` kept up to date. Goes on from the folder's last good checkpoint, if there is one.

    Yields nothing where it has failed before, and its worker has ended it all the same: a machine that is cut off, and
    given up, may share the disk still.

    Closing the iterator records the trial as stopped early. An exception is recorded (interrupted, failed) and raised.
    While the trial computes, trial.json's time of change moves on every few seconds; so does nobody's who hangs.

    Args:
        fingerprint: of the images it must be trained with; None: whatever there is.
        failures: how former attempts failed, where their workers did not live to record it.
        on_notice: called with a line for people: a checkpoint that is torn, a disk that is full.

    Raises:
        DiskFullError: the disk was full for longer than `patiently` waits.
        OccupiedError: another process writes there.
        StorageError: where the folder mirrors a bucket: that does not answer, or another attempt writes there now.
        ResultsError: the folder cannot be written to, or the baseline it is compared to is torn.
        DataError: other images than `fingerprint` says, or see `run_trial`.
        WeightsError: see `run_trial`.
    """
    with only_writer(folder):
        if failures and _has_ended(folder):
            return
        # Of an attempt whose process was killed while it wrote.
        remove_leftovers(folder)
        pulse = _Pulse(folder / "trial.json", on_progress)
        contact = Contact(tell=on_notice or UNHEARD.tell, beat=pulse.beat)
        with _Keeper(settings, folder, identity, device, contact, failures) as keeper:
            data = open_dataset(settings.data, settings.recipe.image_size)
            keeper.begin(data)
            _check_images(data, fingerprint)
            surroundings = Surroundings(
                device=device,
                reference=_reference(folder, identity),
                checkpoints=folder / "checkpoint",
                weights_file=folder / NETWORK_FILE,
                on_progress=pulse.on_progress,
                contact=contact,
            )
            for event in run_trial(_resolve_weights(settings, folder), surroundings):
                if isinstance(event, EpochRow):
                    keeper.add_epoch(event)
                else:
                    keeper.finish(event, data)
                yield event


def _check_images(data: DataSet, fingerprint: str | None) -> None:
    # A machine that joined in the middle of a search was not there when the others were looked at.
    if fingerprint not in (None, data.fingerprint):
        raise DataError(
            f"{socket.gethostname()}: images of {data.name} must be those the search began with, got others; "
            "copy them there, then resume"
        )


class _Pulse:
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


class _Keeper:
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
            versions=package_versions(),
        )
        self._patiently(write_trial, self._record)

    def begin(self, data: DataSet) -> None:
        self._update(data_fingerprint=data.fingerprint)

    def add_epoch(self, row: EpochRow) -> None:
        self._rows.append(row)
        self._patiently(write_epochs, self._rows)
        self._update(epochs_done=row.epoch, validation=_finite(row.to_dict()))

    def finish(self, ended: Ended, data: DataSet) -> None:
        if ended.columns is not None:
            self._patiently(write_images, image_columns(ended.columns, data.test.names))
        if ended.examples is not None:
            self._patiently(write_heatmaps, ended.examples)
        network = self._folder / NETWORK_FILE
        digest = sha256_of_file(network) if network.exists() else None
        self._update(status=ended.status, reason=ended.reason, test=ended.summary, network_sha256=digest)
        remove_tree(self._folder / "checkpoint")

    def __enter__(self) -> _Keeper:
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


def package_versions() -> dict[str, str]:
    """Versions of what decides a trial's numbers."""
    names = ("gcc-search", "torch", "torchvision", "kornia")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def settings_of(trial: Trial, *, data_root: Path | None = None, download: bool = False) -> TrialSettings:
    """What the trial was trained with; `data_root` replaces the folder that its images were in.

    Raises:
        ResultsError: settings that this version does not know.
    """
    try:
        settings = TrialSettings.model_validate(trial.record.settings)
    except ValidationError as error:
        told = f"{trial.folder / 'trial.json'}: settings: {explain_error(error, TrialSettings)}"
        raise ResultsError(f"{told}; read it with the gcc-search that wrote it") from None
    asked = {"root": data_root, "download": download or None}
    changes = {name: value for name, value in asked.items() if value is not None}
    return settings.model_copy(update={"data": settings.data.model_copy(update=changes)})


def _has_ended(folder: Path) -> bool:
    """Whether there is nothing left to do. A finished one is also what others start from: whole."""
    try:
        trial = read_trial(folder)
    except ResultsError:
        return False
    if trial.record.status == "finished":
        return network_problem(trial) is None and not find_damage(trial)
    return trial.record.status in ("collapsed", "diverged")


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


def image_columns(columns: Columns, names: Sequence[str]) -> dict[str, Any]:
    """What `write_images` writes: the measures of the images called `names`."""
    arrays: dict[str, Any] = {name: values.numpy() for name, values in columns.items()}
    return {"name": list(names)} | {name: arrays[name] for name in IMAGES.names if name != "name"}


def _finite(values: dict[str, float | None]) -> dict[str, float | None]:
    # JSON has no NaN; a diverged trial's loss is told by its status.
    return {name: value if value is None or abs(value) < float("inf") else None for name, value in values.items()}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
