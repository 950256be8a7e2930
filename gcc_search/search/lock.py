"""One driver for one run: two would ask the same study and write the same records."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from gcc_search.errors import ResultsError
from gcc_search.search.bucket_lock import only_driver_of_bucket
from gcc_search.storage.mirror import mirror_of

LOCK = "driver.lock"


@contextlib.contextmanager
def only_driver(run: Path) -> Iterator[None]:
    """Holds the run's lock. The kernel lets go of it when the process ends, however it ends; of a bucket's, its age.

    Where the file system cannot lock, as some network ones, nobody is kept out.

    Raises:
        ResultsError: another process holds it; says which. Or the lock's file cannot be written.
    """
    mirror = mirror_of(run)
    with only_driver_of_folder(run) if mirror is None else only_driver_of_bucket(mirror, run / LOCK):
        yield


@contextlib.contextmanager
def only_driver_of_folder(run: Path) -> Iterator[None]:
    """`only_driver`, on a disk."""
    with _open(run / LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip()
            raise ResultsError(
                f"{run}: must have one search at a time, got another: {holder}; wait for it or stop it"
            ) from None
        except OSError:
            # It cannot be locked here.
            pass
        file.truncate(0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        # The lock holds on a full disk too; then it does not say whose it is.
        with contextlib.suppress(OSError):
            file.write(f"pid {os.getpid()} on {socket.gethostname()} since {since}".encode())
        yield


def _open(path: Path) -> FileIO:
    try:
        return path.open("ab+", buffering=0)
    except OSError as error:
        raise ResultsError(f"{path}: must be a file to write to, got: {error.strerror}; mend or remove it") from None
