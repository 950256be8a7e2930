"""One writer for one folder: the worker of a killed driver may live on for seconds, and must not meet the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gcc_search.errors import DiskError, OccupiedError

# Ray's workers notice within seconds that their driver is gone; a machine that swaps takes longer. One that is cut off
# and shares the disk all the same ends its workers after three minutes (seen).
PATIENCE_SECONDS = 300.0
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def only_writer(folder: Path, *, patience_seconds: float | None = None) -> Iterator[None]:
    """Holds `folder` (made where it is missing); waits for another process that does. The kernel frees it at its end.

    Where the file system cannot lock, as some network ones, nobody waits.

    Args:
        patience_seconds: how long it waits; None: five minutes.

    Raises:
        OccupiedError: another process still writes there.
        DiskError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A folder itself can be locked (POSIX): no file is left behind.
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(f"{folder}: must be a folder to write to, got: {reason}; choose another place") from None
    try:
        _lock(handle, folder, PATIENCE_SECONDS if patience_seconds is None else patience_seconds)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, patience_seconds: float) -> None:
    until = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise OccupiedError(
                    f"{folder}: must have one writer at a time, got another process; wait for it or stop it"
                ) from None
            time.sleep(_POLL_SECONDS)
        except OSError:
            return
