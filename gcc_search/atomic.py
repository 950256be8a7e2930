"""Files that appear whole or not at all, and digests that tell when one is not what was written.

Whatever of ours is written or removed in a run directory goes through here: where one lies in a bucket, a `Follower`
does there what is done here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from gcc_search.errors import DiskError, DiskFullError

# No room on the disk, or within the user's share of it.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Follower(Protocol):
    """Keeps a copy of a folder elsewhere as the folder is. Each call returns when that is done, or raises."""

    def wrote(self, path: Path) -> None:
        """There is a new file at `path`, or a new content."""

    def removed(self, path: Path) -> None:
        """There is no file at `path` any more."""

    def removed_tree(self, folder: Path) -> None:
        """There is nothing at `folder`, nor below it, any more."""

    def lives(self, path: Path) -> None:
        """The file's time of change has moved on, as a sign of life."""

    def fetch(self, paths: Sequence[Path]) -> None:
        """These files are about to be read, those that there are."""

    def place(self, path: Path) -> str:
        """The same place elsewhere, as a user types it."""


_followers: dict[Path, Follower] = {}


@contextlib.contextmanager
def followed(root: Path, follower: Follower) -> Iterator[None]:
    """While the body runs, `follower` hears of what this process changes below `root`."""
    _followers[root] = follower
    try:
        yield
    finally:
        del _followers[root]


def follower_of(path: Path) -> Follower | None:
    """Who follows the folder that `path` lies in; None for a folder that is the truth itself."""
    return next((follower for root, follower in list(_followers.items()) if path.is_relative_to(root)), None)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one step: temporary name, fsync, rename.

    A killed process leaves the old file or the new one.

    Raises:
        DiskFullError: there is no room; nothing is left behind.
        DiskError: the folder cannot be written to.
        StorageError: it is to lie in a bucket as well, and does not.
    """
    replace_file(path, content)
    if (follower := follower_of(path)) is not None:
        follower.wrote(path)


def remove_file(path: Path) -> None:
    """Removes a file, if there is one."""
    path.unlink(missing_ok=True)
    if (follower := follower_of(path)) is not None:
        follower.removed(path)


def remove_tree(folder: Path) -> None:
    """Removes a folder with all that is in it, if there is one."""
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if (follower := follower_of(folder)) is not None:
            follower.removed_tree(folder)


def show_life(path: Path) -> None:
    """Moves the time of change of the file at `path` on.

    Raises:
        FileNotFoundError: there is none.
    """
    os.utime(path)
    if (follower := follower_of(path)) is not None:
        follower.lives(path)


def fetch(paths: Sequence[Path]) -> None:
    """Makes sure that files which are about to be read are here, those that there are."""
    asked: dict[int, tuple[Follower, list[Path]]] = {}
    for path in paths:
        if (follower := follower_of(path)) is not None:
            asked.setdefault(id(follower), (follower, []))[1].append(path)
    for follower, theirs in asked.values():
        follower.fetch(theirs)


def place_of(path: Path) -> str:
    """Where `path` lies, as a user types it."""
    follower = follower_of(path)
    return str(path) if follower is None else follower.place(path)


def as_told(text: str) -> str:
    """A line for people, in which places have the names that people know."""
    for root, follower in list(_followers.items()):
        text = text.replace(f"{root}/", f"{follower.place(root).partition('?')[0]}/")
    return text


def replace_file(path: Path, content: bytes) -> None:
    """`write_atomically`, of which no follower hears."""
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
        raise _refused(path, len(content), error) from None
    finally:
        # Gone already, but after an error or Ctrl-C.
        _remove_quietly(temporary)


def copy_tree(source: Path, target: Path) -> None:
    """Makes `target` a copy of the folder `source`, all of it or nothing: temporary name, then rename.

    Raises:
        DiskFullError: there is no room; nothing is left behind.
        DiskError: a file cannot be read, or the folder cannot be written to.
    """
    temporary, size = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp"), 0
    try:
        files = [path for path in source.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        remove_tree(target)
        temporary.mkdir(parents=True)
        for path in files:
            there = temporary / path.relative_to(source)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, there)
        temporary.rename(target)
    except OSError as error:
        raise _refused(target, size, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def is_for_want_of_room(error: OSError) -> bool:
    """Whether a disk, or the user's share of it, is full."""
    return error.errno in _NO_ROOM


def _refused(path: Path, needed: int, error: OSError) -> DiskError | DiskFullError:
    """What the system said as `path` was written, as the line that a user reads."""
    if is_for_want_of_room(error):
        return _disk_full(path.parent, needed)
    reason = error.strerror or error
    return DiskError(f"{path}: must be writable, got: {reason}; free space or choose another place")


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
