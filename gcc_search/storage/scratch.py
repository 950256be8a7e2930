"""Scratch folders, which go with the process that made them; what a kill has left, the next one removes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

# Of the folders' names, Ray's too; the number of the process that made one follows.
SCRATCH = "gcc-"


def scratch_parent() -> Path:
    """Where scratch folders lie, Ray's own files too, and what a kill has left of them."""
    # Unix socket paths end after 107 characters, and Ray adds 60 of its own.
    return Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, held and then removed. The kernel lets go of it when this process ends, however it ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=scratch_parent()))
    # A folder itself can be locked (POSIX): what is in it is its user's alone.
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Where nothing can be locked, nothing is taken for left behind either.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def remove_stale_scratch() -> None:
    """Removes the scratch folders of processes that were killed: their number is gone, and nobody holds the folder.

    A number alone says nothing of another container's, which may share the folder around them.
    """
    for folder in scratch_parent().glob(f"{SCRATCH}*-*"):
        pid = folder.name.removeprefix(SCRATCH).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            # Another process may end just now, or removes the same folder; or the folder is another user's.
            with contextlib.suppress(OSError):
                _remove_unless_held(folder)


def _remove_unless_held(folder: Path) -> None:
    # A link is not followed.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(handle).st_uid == os.getuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
