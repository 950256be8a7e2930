"""Reads a run directory. What is torn is refused by name; the rest is used, and the refusals are handed along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from gcc_search.atomic import sha256_of_file
from gcc_search.errors import ResultsError
from gcc_search.results.checks import complain
from gcc_search.results.files import REDO, check_version, read_json, told_by_name, way_out
from gcc_search.results.schema import EPOCHS, HEATMAPS, IMAGES, NETWORK_FILE, RunRecord, TrialRecord
from gcc_search.results.tables import read_table, table_problem

Record = TypeVar("Record", RunRecord, TrialRecord)

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
        return [problem for path in paths if (problem := table_problem(path)) is not None]


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
    with told_by_name(parent, missing="was the folder copied whole?"):
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
    with told_by_name(path, missing="was the folder copied whole?"):
        is_there, is_folder = path.exists(), folder.is_dir()
    if not is_there:
        got = "a folder without one; was it copied whole?" if is_folder else "no folder; see ls RUN/trials"
        if (folder / "run.json").exists():
            got = f"a whole run; name one of its trials, see: ls {folder}/trials"
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


def _read_record(path: Path, kind: type[Record]) -> Record:
    content = read_json(path)
    check_version(path, content.get("schema_version"))
    names = {item.name for item in fields(kind)}
    try:
        record = kind(**{key: value for key, value in content.items() if key in names})
    except TypeError as error:
        raise ResultsError(
            f"{path}: must have every field of a {kind.__name__}, got: {error}; {way_out(path)}"
        ) from None
    if complaint := complain(record):
        raise ResultsError(f"{path}: {complaint}; {way_out(path)}")
    return record
