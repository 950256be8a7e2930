"""What a command needs of runs and trials that lie in buckets, fetched before it begins; folders are left alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from gcc_search.storage.mirror import RECORD, local_folder, pull
from gcc_search.storage.place import is_url, parse_place

RUN_RECORD = "run.json"
# What figures and tables are made of. Heatmaps are fetched for the networks that are shown; networks never.
READ = (RUN_RECORD, RECORD, "epochs.parquet", "images.parquet")


@contextlib.contextmanager
def open_runs(runs: Sequence[str], names: Sequence[str]) -> Iterator[list[Path]]:
    """A folder for each run, with the files called `names` in it.

    Raises:
        ResultsError: see `local_folder`.
    """
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(local_folder(run)) for run in runs]
        for folder in folders:
            pull(folder, *names)
        yield folders


def figures_folder(runs: Sequence[str]) -> Path | None:
    """Where figures of runs in buckets go: to where the user is; None leaves it to folders."""
    if not any(map(is_url, runs)):
        return None
    names = [parse_place(run).key.rpartition("/")[2] if is_url(run) else Path(run).resolve().name for run in runs]
    return Path(f"analysis-{'+'.join(names)}")
