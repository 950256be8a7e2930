"""A run of `gcc-search train` that was broken off: whether the same command goes on with it."""

from __future__ import annotations

from pathlib import Path

from gcc_search.errors import DataError, ResultsError
from gcc_search.keeper import decisive
from gcc_search.results.reader import read_run_record, read_trial
from gcc_search.settings import TrialSettings
from gcc_search.storage.mirror import mirror_of, names_in

# A trial of these has nothing left to train. One that failed has: its disk, or its memory, may do better now.
ENDED = ("finished", "collapsed", "diverged", "stopped")


def goes_on(run: Path, trial_id: str, settings: TrialSettings) -> bool:
    """Whether `run` is there, and of this one trial, with these settings, that has not ended; False where none is.

    Raises:
        ResultsError: it is there and something else, or its run.json is torn.
    """
    if not (run.exists() or names_in(run)):
        return False
    if mirror_of(run) is not None or not (run / "run.json").exists():
        # Of a bucket no checkpoint is fetched.
        raise _taken(run, "that exists", helps=", or remove it")
    kept = read_run_record(run).space.get("single")
    others = {folder.name for folder in (run / "trials").glob("[!.]*")} - {trial_id}
    if kept is None or others or decisive(kept) != decisive(settings.model_dump(mode="json")):
        raise _taken(run, "of other settings")
    status = _status_of(run / "trials" / trial_id)
    if status in ENDED:
        raise _taken(run, f"that has ended ({status})", helps=", or remove it")
    return True


def _status_of(folder: Path) -> str | None:
    try:
        return read_trial(folder).record.status
    except ResultsError:
        # Not begun, or torn: its checkpoints carry digests of their own.
        return None


def _taken(run: Path, what: str, *, helps: str = "") -> ResultsError:
    return ResultsError(f"{run}: must be a new name, got one {what}; choose another with --name{helps}")


def check_same_images(run: Path, fingerprint: str) -> None:
    """Raises DataError where `run` began with other images."""
    if read_run_record(run).data[0]["fingerprint"] != fingerprint:
        raise DataError(f"{run}: images must be those it began with, got others; put them back, or choose another name")
