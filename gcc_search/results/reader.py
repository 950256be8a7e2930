"""Reads a run directory. What is torn is refused by name; the rest is used, and the refusals are handed along."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from gcc_search.atomic import sha256_of_file
from gcc_search.errors import DiskError, ResultsError
from gcc_search.results.checks import complain, shown
from gcc_search.results.schema import (
    EPOCHS,
    HEATMAPS,
    IMAGES,
    NETWORK_FILE,
    READ_VERSIONS,
    SCHEMA_VERSION,
    SINCE_2,
    RunRecord,
    TrialRecord,
)
from gcc_search.results.seal import TAIL_BYTES, ends_are_whole, is_whole, read_sealed
from gcc_search.results.writer import checksum

Record = TypeVar("Record", RunRecord, TrialRecord)

REDO = "delete its folder to have it redone"
NOT_WRITTEN = "the trial has not written it"
_VERSION_KEY = b"gcc_search.schema_version"
# While one waits for the disk, others parse.
READERS = 4
HEATMAPS_FILE = "heatmaps.parquet"


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
        path = self.folder / HEATMAPS_FILE
        return read_table(path, HEATMAPS) if path.exists() else HEATMAPS.empty_table()

    def torn_tables(self) -> list[str]:
        """A line for each table that should be there and is not, or does not look whole: see `check_table`."""
        optional = (self.folder / name for name in ("epochs.parquet", HEATMAPS_FILE))
        paths = [path for path in optional if path.exists()]
        if self.record.status == "finished" or self.record.test is not None:
            paths.append(self.folder / "images.parquet")
        return [problem for path in paths if (problem := _refusal(path)) is not None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory as it was when read. `problems` has one line for each file that was refused."""

    folder: Path
    record: RunRecord
    trials: tuple[Trial, ...]
    baselines: dict[str, Trial]
    problems: tuple[str, ...]


def _untold(done: int, total: int) -> None:
    """For callers who do not ask how far reading is."""


def read_run(folder: Path, tell: Callable[[int, int], None] = _untold) -> Run:
    """Everything but the tables, which are read when asked for. `tell`: trials read, and how many there are.

    Raises:
        ResultsError: the folder is no run directory, or its run.json is torn or of another schema version.
    """
    if not (folder / "run.json").exists():
        got = "a folder without one" if folder.is_dir() else "no folder"
        raise ResultsError(
            f"{folder}: must be a run directory (with a run.json), got {got}; runs are listed by: ls runs"
        )
    record = read_run_record(folder)
    problems: list[str] = []
    trials = _read_trials(folder / "trials", problems, tell)
    baselines = {trial.folder.name: trial for trial in _read_trials(folder / "baselines", problems, _untold)}
    return Run(folder=folder, record=record, trials=tuple(trials), baselines=baselines, problems=tuple(problems))


def read_run_record(folder: Path) -> RunRecord:
    """run.json alone.

    Raises:
        ResultsError: missing, torn or of another schema version.
    """
    return _read_record(folder / "run.json", RunRecord)


def _read_trials(parent: Path, problems: list[str], tell: Callable[[int, int], None]) -> list[Trial]:
    # Not by a pattern: what may not be listed would be empty.
    with _told_by_name(parent, missing="was the folder copied whole?"):
        found = sorted(parent.iterdir()) if parent.is_dir() else []
    # A hidden folder is a copy under way.
    folders = [path for path in found if not path.name.startswith(".") and _may_be_folder(path)]
    trials: list[Trial] = []
    with ThreadPoolExecutor(READERS) as pool:
        for number, trial in enumerate(pool.map(_trial_or_problem, folders), start=1):
            tell(number, len(folders))
            if isinstance(trial, Trial):
                trials.append(trial)
            else:
                problems.append(trial)
    return trials


def _may_be_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        # Reading it tells.
        return True


def _trial_or_problem(folder: Path) -> Trial | str:
    try:
        trial = read_trial(folder)
    except ResultsError as error:
        return str(error)
    if trial.record.id != folder.name:
        got = f"that of {trial.record.id}"
        return f"{folder}/trial.json: id must be the folder's name, got {got}; was the folder renamed?"
    return trial


def read_trial(folder: Path) -> Trial:
    """One trial directory.

    Raises:
        ResultsError: the folder is no trial directory, or its trial.json is torn or of another schema version.
    """
    path = folder / "trial.json"
    with _told_by_name(path, missing="was the folder copied whole?"):
        is_there, is_folder = path.exists(), folder.is_dir()
    if not is_there:
        got = "a folder without one; was it copied whole?" if is_folder else "no folder; see ls RUN/trials"
        raise ResultsError(f"{folder}: must be a trial directory (with a trial.json), got {got}")
    return Trial(folder=folder, record=_read_record(path, TrialRecord))


def network_problem(trial: Trial) -> str | None:
    """What is wrong with the trial's network.safetensors; None where it is what its record says."""
    path, told = trial.folder / NETWORK_FILE, trial.record.network_sha256
    try:
        found = sha256_of_file(path)
    except OSError as error:
        return f"{path}: must be a network that can be read, got: {error.strerror}; {REDO}"
    return None if told in (None, found) else f"{path}: must be as it was written, got other bytes; {REDO}"


def is_finished_whole(trial: Trial) -> bool:
    """Whether a trial is finished, and its tables and its network are as they were written."""
    return trial.record.status == "finished" and network_problem(trial) is None and not find_damage(trial)


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
    with _told_by_name(path, missing=missing):
        return path.read_bytes()


@contextmanager
def _told_by_name(path: Path, *, missing: str) -> Iterator[None]:
    """What the disk refuses, as the line that a user reads."""
    try:
        yield
    except FileNotFoundError:
        raise ResultsError(f"{path}: must exist, got nothing; {missing}") from None
    except OSError as error:
        raise DiskError(f"{path}: must be readable, got: {error.strerror}; check its owner and the disk") from None


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
    if version not in READ_VERSIONS:
        rule = f"schema_version must be {' or '.join(map(str, READ_VERSIONS))}"
        raise ResultsError(f"{path}: {rule}, got {shown(version)}; read it with the gcc-search that wrote it")


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet table of ours, its seal verified over the whole file, only `columns` of it where given.

    Columns that an older version did not have yet are there, without values.

    Raises:
        ResultsError: missing, torn, changed by a single bit, or not of this schema.
    """
    content = _read_bytes(path, missing=NOT_WRITTEN)
    _check_whole(path, is_whole(content))
    table = read_sealed(content, columns)
    version = _table_version(table)
    _check_version(path, version)
    expected = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    if version == 1:
        table = _with_later_columns(table, expected)
    if not table.schema.equals(expected):
        raise ResultsError(f"{path}: columns must be those of schema version {SCHEMA_VERSION}, got others; {REDO}")
    return table


def _with_later_columns(table: pa.Table, expected: pa.Schema) -> pa.Table:
    for place, field in enumerate(expected):
        if field.name in SINCE_2 and field.name not in table.column_names:
            table = table.add_column(place, field, pa.nulls(len(table), field.type))
    return table


def check_table(path: Path) -> None:
    """Passes a table that is there and looks whole, for tables that nothing is read from.

    The rule: what is read is verified to the last bit before it is parsed (`read_table`). Of what is not read, the
    first bytes and the last `TAIL_BYTES` are looked at, which is all of a short file: an epochs.parquet, as a rule.

    Raises:
        ResultsError: missing, cut short, grown, zeroed at an end, no table of ours, or of another schema version.
    """
    with _told_by_name(path, missing=NOT_WRITTEN), path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(4)
        file.seek(max(size - TAIL_BYTES, 0))
        tail = file.read()
    _check_whole(path, ends_are_whole(head, tail, size))
    _check_version(path, _version_in_footer(tail))


def _refusal(path: Path) -> str | None:
    try:
        check_table(path)
    except ResultsError as error:
        return str(error)
    return None


def _check_whole(path: Path, is_so: bool) -> None:
    if not is_so:
        raise ResultsError(f"{path}: must be whole Parquet, got a torn or changed file; {REDO}")


def _version_in_footer(tail: bytes) -> int | None:
    """Parquet's footer (Thrift's compact protocol) has a type and a length, a byte each, between key and value."""
    _, key, rest = tail.rpartition(_VERSION_KEY)
    told = rest[2 : 2 + rest[1]] if key else b""
    return int(told) if told.isdigit() else None


def _table_version(table: pa.Table) -> int | str | None:
    version: bytes | None = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version is None:
        return None
    return int(version) if version.isdigit() and len(version) < 9 else version.decode(errors="replace")
