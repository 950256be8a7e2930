"""The folder in which a trial is recorded: its own, or scratch that mirrors it where the run lies in a bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from gcc_search.errors import ResultsError
from gcc_search.identity import Identity, start_key
from gcc_search.patience import Contact
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import NETWORK_FILE
from gcc_search.settings import TrialSettings
from gcc_search.storage.mirror import RECORD, local_folder, mirror_of, pull
from gcc_search.storage.place import is_url
from gcc_search.storage.scratch import remove_stale_scratch

EPOCHS_FILE = "epochs.parquet"


@contextlib.contextmanager
def working_folder(
    run: str, place: str, settings: TrialSettings, identity: Identity, tell: Callable[[str], None]
) -> Iterator[Path]:
    """`place` in `run`, a folder or a URL; of a bucket, with what the trial goes on from and is compared to.

    Whoever records there is its only writer, and ends with a StorageError where another takes its place. What killed
    processes left of such folders on this machine is removed: no driver may ever come here to do so.

    Args:
        place: as in trials/NAME. tell: hears of a bucket that does not answer, while the trial runs.

    Raises:
        ResultsError: see `local_folder`.
    """
    if is_url(run):
        remove_stale_scratch()
    # Who asked for this trial has written the run's record there.
    with local_folder(run, were_good=True) as here:
        folder, mirror = here / place, mirror_of(here)
        if mirror is not None:
            mirror.fence = folder
            mirror.pull(folder, lambda path: path in (RECORD, EPOCHS_FILE) or path.startswith("checkpoint/"))
            if _is_finished(folder):
                # By a worker that was cut off and given up: what it left is looked at closely.
                mirror.pull(folder, lambda path: True)
            if identity.baseline is not None:
                pull(here / "baselines" / identity.baseline, RECORD, EPOCHS_FILE)
            if (key := start_key(settings.weights)) is not None:
                pull(here / "baselines" / key, RECORD, NETWORK_FILE)
            mirror.bucket.tries.contact = Contact(tell=tell)
        yield folder


def _is_finished(folder: Path) -> bool:
    try:
        return read_trial(folder).record.status == "finished"
    except ResultsError:
        return False
