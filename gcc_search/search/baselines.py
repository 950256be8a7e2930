"""Baselines are trained once: found again by their key, in this run or in one beside it."""

from __future__ import annotations

import functools
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gcc_search.atomic import copy_tree, fetch
from gcc_search.errors import ResultsError, StorageError
from gcc_search.patience import Contact, patiently
from gcc_search.plugins import versions_of
from gcc_search.results.reader import is_finished_whole, read_trial
from gcc_search.results.schema import TrialRecord
from gcc_search.search.bucket_run import baseline_folders, fetch_trial
from gcc_search.search.jobs import FOLDERS
from gcc_search.storage.mirror import RECORD, push_tree


def find_baseline(run: Path, key: str, contact: Contact, *, on_gpu: bool) -> TrialRecord | None:
    """The finished baseline `key`, or None. One that a run beside this one holds is copied into this one.

    Equal keys mean equal network, weights, images, recipe, evaluation and seed, so an equal result on like machines: of
    another run's, one that was trained with another torch, with other code of a network that is none of ours, or on a
    CPU where this search has GPUs, is left.
    """
    own = run / "baselines" / key
    for folder in baseline_folders(run, key):
        record = _read_finished(folder)
        if record is not None and (folder == own or _is_alike(record, on_gpu=on_gpu)):
            if folder != own:
                patiently(functools.partial(copy_tree, folder, own), contact)
                push_tree(own)
            return record
    return None


class BaselineRows:
    """What the baselines of a run have reached after each epoch; read no more once they have ended."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._known: dict[str, list[dict[str, Any]]] = {}

    def rows_of(self, key: str) -> list[dict[str, Any]]:
        """By column of epochs.parquet, epoch after epoch, so far; none where they cannot be read now."""
        if key in self._known:
            return self._known[key]
        folder = self._run / FOLDERS["baseline"] / key
        try:
            fetch([folder / RECORD, folder / "epochs.parquet"])
            trial = read_trial(folder)
            rows: list[dict[str, Any]] = trial.epochs().to_pylist()
        except ResultsError:
            # A rank at a rung is not worth the search.
            return []
        if trial.record.status in ("finished", "collapsed", "diverged"):
            # What failed or was interrupted goes on.
            self._known[key] = rows
        return rows


def _is_alike(record: TrialRecord, *, on_gpu: bool) -> bool:
    decisive = {"torch": version("torch")} | versions_of([record.network])
    return (record.device != "cpu") == on_gpu and decisive.items() <= record.versions.items()


def _read_finished(folder: Path) -> TrialRecord | None:
    try:
        if read_trial(folder).record.status != "finished":
            return None
        fetch_trial(folder)
        trial = read_trial(folder)
    except StorageError:
        raise
    except ResultsError:
        # A torn one is no baseline: it is trained again in its own run.
        return None
    return trial.record if is_finished_whole(trial) else None
