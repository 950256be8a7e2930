"""A search whose run lies in a bucket: what its driver fetches, and what it sends beside its trials' records.

The driver works in a folder that mirrors the run (`storage.mirror`). Where the run is a folder, nothing here does
anything.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray.tune import Callback

from gcc_search.atomic import fetch
from gcc_search.errors import SpaceError, StorageError
from gcc_search.results.files import REDO
from gcc_search.results.reader import Trial
from gcc_search.results.schema import NETWORK_FILE
from gcc_search.space import SearchSpace
from gcc_search.storage.mirror import LEAST_SILENT_MINUTES, RECORD, mirror_of
from gcc_search.storage.outage import OutageError

STUDY = "study.db"
# The study is a cache: what is lost of it, `resume` makes again.
STUDY_SECONDS = 300.0
_RECORDS = ("run.json", RECORD, "epochs.parquet")


def check_silence(run: Path, space: SearchSpace) -> None:
    """Raises SpaceError where workers would be ended before a sign of life of theirs could arrive."""
    if mirror_of(run) is not None and space.max_silent_minutes < LEAST_SILENT_MINUTES:
        raise SpaceError(
            f"max_silent_minutes: must be at least {LEAST_SILENT_MINUTES:g} where results go to a bucket, "
            f"got {space.max_silent_minutes:g}; signs of life go there twice a minute"
        )


def fetch_run(run: Path) -> None:
    """Fetches what `resume` goes on from: records and rows of all, and baselines whole, which are looked at closely."""
    if (mirror := mirror_of(run)) is not None:
        mirror.pull(run, _is_resumed_from)


def _is_resumed_from(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name in _RECORDS or (folder.startswith("baselines/") and not folder.endswith("/checkpoint"))


def fetch_record(folder: Path) -> None:
    """Fetches a trial's record as it is now.

    Raises:
        StorageError: the bucket does not answer.
    """
    fetch([folder / RECORD])


def fetch_trial(folder: Path) -> None:
    """Fetches all of a trial but its states."""
    if (mirror := mirror_of(folder)) is not None:
        mirror.pull(folder, lambda path: not path.startswith("checkpoint/"))


def baseline_folders(run: Path, key: str) -> list[Path]:
    """Where the baseline `key` may lie, this run's first, then those beside it; in a bucket, with their records."""
    own = run / "baselines" / key
    mirror = mirror_of(run)
    if mirror is None:
        return [own, *sorted(run.parent.glob(f"*/baselines/{key}"))]
    names = mirror.bucket.folders(mirror.key(run.parent))
    folders = [own, *(run.parent / name / "baselines" / key for name in names if name != run.name)]
    fetch([folder / RECORD for folder in folders])
    return [folder for folder in folders if (folder / RECORD).exists()]


def missing_files(trial: Trial) -> Iterator[str]:
    """A line for each file that a finished trial in a bucket has lost. What it holds no one reads here: it would have
    to be fetched, and objects do not tear."""
    mirror = mirror_of(trial.folder)
    assert mirror is not None, "of a folder, the files themselves are looked at"
    for name in ("epochs.parquet", "images.parquet", NETWORK_FILE):
        if not mirror.has(trial.folder / name):
            yield f"{trial.folder / name}: must exist, got nothing; {REDO}"


class ClaimWatch(Callback):
    """Ray tells it of every step: one of a driver that may write nothing any more is the last."""

    def __init__(self, run: Path) -> None:
        self._mirror = mirror_of(run)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raises StorageError where the run is another driver's by now. Asks nobody: who renews the claim says so."""
        if self._mirror is not None and self._mirror.barred is not None:
            raise StorageError(self._mirror.barred)


class StudySender(Callback):
    """Ray tells it of every step; every few minutes the study goes to the bucket."""

    def __init__(self, run: Path) -> None:
        self._run, self._sent = run, time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._sent > STUDY_SECONDS:
            self._sent = time.monotonic()
            # The end tells what was never sent.
            with contextlib.suppress(OutageError, StorageError, sqlite3.Error):
                _send_study(self._run, once=True)


def send_study(run: Path, tell: Callable[[str], None]) -> None:
    """Sends the study as it is in the end."""
    try:
        _send_study(run, once=False)
    except (StorageError, sqlite3.Error) as error:
        tell(f"study.db is not in the bucket, and can be made again: {error}")


def _send_study(run: Path, *, once: bool) -> None:
    mirror, database = mirror_of(run), run / STUDY
    if mirror is None or not database.exists():
        return
    if mirror.barred is not None:
        raise StorageError(mirror.barred)
    copy = database.with_name(f".{STUDY}.{uuid.uuid4().hex}.tmp")
    try:
        with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(copy)) as to:
            source.backup(to)
        (mirror.bucket.write_once if once else mirror.bucket.write)(copy.read_bytes(), mirror.key(database))
    finally:
        copy.unlink(missing_ok=True)
