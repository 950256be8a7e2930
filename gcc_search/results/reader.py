"""Reads a run directory. What is torn is refused by name; the rest is used, and the refusals are handed along."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from gcc_search.atomic import sha256_of_file
from gcc_search.errors import ResultsError
from gcc_search.results.checks import complain, shown
from gcc_search.results.schema import EPOCHS, HEATMAPS, IMAGES, NETWORK_FILE, SCHEMA_VERSION, RunRecord, TrialRecord
from gcc_search.results.seal import is_whole, read_sealed
from gcc_search.results.writer import checksum

Record = TypeVar("Record", RunRecord, TrialRecord)

REDO = "delete its folder to have it redone"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial directory: its record, and where its tables are."""

    folder: Path
    record: TrialRecord

    def epochs(self, columns: Sequence[str] | None = None) -> pa.Table:
        """epochs.parquet; no rows where no epoch has finished."""
        path = self.folder / "epochs.parquet"
        return read_table(path, EPOCHS, columns) if path.exists() else EPOCHS.empty_table()

    def images(self, columns: Sequence[str] | None = None) -> pa.Table:
        """images.parquet, only `columns` of it where given.

        Raises:
            ResultsError: the test split was not scored, or the file is torn.
        """
        return read_table(self.folder / "images.parquet", IMAGES, columns)

    def heatmaps(self) -> pa.Table:
        """heatmaps.parquet: a few test images with their maps; no rows where none were kept.

        Raises:
            ResultsError: the file is torn.
        """
        path = self.folder / "heatmaps.parquet"
        return read_table(path, HEATMAPS) if path.exists() else HEATMAPS.empty_table()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory as it was when read. `problems` has one line for each file that was refused."""

    folder: Path
    record: RunRecord
    trials: tuple[Trial, ...]
    baselines: dict[str, Trial]
    problems: tuple[str, ...]


def read_run(folder: Path) -> Run:
    """Everything but the tables, which are read when asked for.

    Raises:
        ResultsError: the folder is no run directory, or its run.json is torn or of another schema version.
    """
    if not (folder / "run.json").exists():
        got = "a folder without one" if folder.is_dir() else "no folder"
        raise ResultsError(
            f"{folder}: must be a run directory (with a run.json), got {got}; runs are listed by: ls runs"
        )
    record = _read_record(folder / "run.json", RunRecord)
    problems: list[str] = []
    trials = _read_trials(folder / "trials", problems)
    baselines = {trial.folder.name: trial for trial in _read_trials(folder / "baselines", problems)}
    return Run(folder=folder, record=record, trials=tuple(trials), baselines=baselines, problems=tuple(problems))


def _read_trials(parent: Path, problems: list[str]) -> list[Trial]:
    trials: list[Trial] = []
    # A hidden folder is a copy under way.
    for folder in sorted(parent.glob("[!.]*/")) if parent.is_dir() else []:
        try:
            trials.append(_read_named(folder))
        except ResultsError as error:
            problems.append(str(error))
    return trials


def _read_named(folder: Path) -> Trial:
    trial = read_trial(folder)
    if trial.record.id != folder.name:
        got = f"that of {trial.record.id}"
        raise ResultsError(f"{folder}/trial.json: id must be the folder's name, got {got}; was the folder renamed?")
    return trial


def read_trial(folder: Path) -> Trial:
    """One trial directory.

    Raises:
        ResultsError: its trial.json is missing, torn or of another schema version.
    """
    return Trial(folder=folder, record=_read_record(folder / "trial.json", TrialRecord))


def network_problem(trial: Trial) -> str | None:
    """What is wrong with the trial's network.safetensors; None where it is what its record says."""
    path, told = trial.folder / NETWORK_FILE, trial.record.network_sha256
    try:
        found = sha256_of_file(path)
    except OSError as error:
        return f"{path}: must be a network that can be read, got: {error.strerror}; {REDO}"
    return None if told in (None, found) else f"{path}: must be as it was written, got other bytes; {REDO}"


def find_damage(trial: Trial) -> list[str]:
    """A line for each file of a finished trial that is torn or changed, and for each table that is missing.

    A network that is not there is no damage: who copies a run to look at it may leave networks out. Nor are heatmaps,
    which not every trial keeps.
    """
    problems = []
    # One column is enough: the seal is checked over the whole file.
    for read, column in ((trial.epochs, "epoch"), (trial.images, "index")):
        try:
            if not read([column]).num_rows:
                problems.append(f"{trial.folder}: must have a row for each {column}, got none; {REDO}")
        except ResultsError as error:
            problems.append(str(error))
    try:
        trial.heatmaps()
    except ResultsError as error:
        problems.append(str(error))
    network = network_problem(trial) if (trial.folder / NETWORK_FILE).exists() else None
    return [*problems, *([network] if network else [])]


def read_json(path: Path) -> dict[str, Any]:
    """A file that `writer.write_json` wrote, its checksum verified.

    Raises:
        ResultsError: missing, not readable, cut short, changed by hand or by the disk.
    """
    text = _read_bytes(path, missing="was the folder copied whole?")
    try:
        content = json.loads(text)
        is_ours = isinstance(content, dict) and content.get("sha256") == checksum(content)
    except (ValueError, RecursionError):
        raise ResultsError(f"{path}: must be whole JSON, got a torn file; {REDO}") from None
    if not is_ours:
        raise ResultsError(f"{path}: checksum must match, got another: the file was changed; {REDO}")
    return dict(content)


def _read_bytes(path: Path, *, missing: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ResultsError(f"{path}: must exist, got nothing; {missing}") from None
    except OSError as error:
        raise ResultsError(f"{path}: must be readable, got: {error.strerror}; check its owner and the disk") from None


def _read_record(path: Path, kind: type[Record]) -> Record:
    content = read_json(path)
    _check_version(path, content.get("schema_version"))
    names = {item.name for item in fields(kind)}
    try:
        record = kind(**{key: value for key, value in content.items() if key in names})
    except TypeError as error:
        raise ResultsError(f"{path}: must have every field of a {kind.__name__}, got: {error}; {REDO}") from None
    if complaint := complain(record):
        raise ResultsError(f"{path}: {complaint}; {REDO}")
    return record


def _check_version(path: Path, version: object) -> None:
    if version != SCHEMA_VERSION:
        rule = f"schema_version must be {SCHEMA_VERSION}"
        raise ResultsError(f"{path}: {rule}, got {shown(version)}; read it with the gcc-search that wrote it")


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet table of ours, its seal verified over the whole file, only `columns` of it where given.

    Raises:
        ResultsError: missing, torn, changed by a single bit, or not of this schema.
    """
    content = _read_bytes(path, missing="the trial has not written it")
    if not is_whole(content):
        raise ResultsError(f"{path}: must be whole Parquet, got a torn or changed file; {REDO}")
    table = read_sealed(content, columns=None if columns is None else list(columns))
    _check_version(path, _table_version(table))
    expected = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    if not table.schema.equals(expected):
        raise ResultsError(f"{path}: columns must be those of schema version {SCHEMA_VERSION}, got others; {REDO}")
    return table


def _table_version(table: pa.Table) -> int | str | None:
    version: bytes | None = (table.schema.metadata or {}).get(b"gcc_search.schema_version")
    if version is None:
        return None
    return int(version) if version.isdigit() and len(version) < 9 else version.decode(errors="replace")
