"""What a command needs of runs and trials that lie in buckets, fetched before it begins; folders are left alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gcc_search.results.reader import read_trial
from gcc_search.results.schema import NETWORK_FILE, TrialRecord
from gcc_search.storage.mirror import RECORD, Mirror, local_folder, mirror_of, pull
from gcc_search.storage.place import is_url, parse_place

RUN_RECORD = "run.json"
# What figures and tables are made of. Heatmaps are fetched for the networks that are shown; networks never.
READ = (RUN_RECORD, RECORD, "epochs.parquet", "images.parquet")


@contextlib.contextmanager
def open_runs(runs: Sequence[str]) -> Iterator[list[Path]]:
    """A folder for each run, with the files of `READ` in it.

    Raises:
        ResultsError: see `local_folder`.
    """
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(local_folder(run)) for run in runs]
        for folder in folders:
            pull(folder, *READ)
        yield folders


def _nothing(record: TrialRecord) -> Sequence[str]:
    return ()


@contextlib.contextmanager
def open_trials(
    places: Sequence[str], needs: Callable[[TrialRecord], Sequence[str]] = _nothing
) -> Iterator[list[Path]]:
    """A path for each trial directory or exported file, with its network, and with the baselines that `needs` names.

    Raises:
        ResultsError: see `local_folder`; a trial's record that is torn.
    """
    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(local_folder(place)) for place in places]
        for path in paths:
            if (mirror := mirror_of(path)) is not None:
                _fetch_trial(mirror, path, needs)
        yield paths


def _fetch_trial(mirror: Mirror, path: Path, needs: Callable[[TrialRecord], Sequence[str]]) -> None:
    run = path.parent.parent
    paths = [path, path / RECORD, path / NETWORK_FILE, run / RUN_RECORD]
    # What lies right in the bucket is in no run.
    mirror.fetch([path for path in paths if path.is_relative_to(mirror.root)])
    # Without a record it is an exported file, or nothing.
    keys = needs(read_trial(path).record) if (path / RECORD).exists() else ()
    for key in keys:
        mirror.pull(run / "baselines" / key, lambda name: not name.startswith("checkpoint/"))


def figures_folder(runs: Sequence[str]) -> Path | None:
    """Where figures of runs in buckets go: to where the user is; None leaves it to folders."""
    if not any(map(is_url, runs)):
        return None
    names = [parse_place(run).key.rpartition("/")[2] if is_url(run) else Path(run).resolve().name for run in runs]
    return Path(f"analysis-{'+'.join(names)}")
