"""Files that appear whole or not at all, and digests that tell when one is not what was written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from pathlib import Path

from gcc_search.errors import DiskFullError, ResultsError

# No room on the disk, or within the user's share of it.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one step: temporary name, fsync, rename.

    A killed process leaves the old file or the new one.

    Raises:
        DiskFullError: there is no room; nothing is left behind.
        ResultsError: the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _disk_full(path.parent, len(content)) from None
        reason = error.strerror or error
        raise ResultsError(f"{path}: must be writable, got: {reason}; free space or choose another place") from None
    finally:
        # Gone already, but after an error or Ctrl-C.
        _remove_quietly(temporary)


def require_room(folder: Path, needed: int) -> None:
    """Nothing, where the disk of `folder` has `needed` bytes free.

    Raises:
        DiskFullError: it has less.
    """
    if shutil.disk_usage(folder).free < needed:
        raise _disk_full(folder, needed)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left anywhere below `folder` while they wrote. Nobody may be writing there now."""
    for path in list(folder.rglob(".*.tmp")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            _remove_quietly(path)


def _disk_full(folder: Path, needed: int) -> DiskFullError:
    there = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    free = shutil.disk_usage(there).free
    # Where bytes are left, what ran out is a quota, or the number of files.
    missing = f"{_told(needed - free)} more" if free < needed else f"room for {_told(needed)}, by quota or files"
    return DiskFullError(f"{folder}: disk must have {missing}, got {_told(free)} free; delete something there")


def _told(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def sha256(content: bytes) -> str:
    """Hex digest of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's content, read piece by piece: networks are large."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself survive a power cut (POSIX: a folder is a file to sync)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_quietly(path: Path) -> None:
    # Where the folder itself is missing or forbidden there is nothing to remove; the first error is the one to tell.
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
