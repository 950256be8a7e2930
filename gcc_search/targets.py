"""Where a command is asked to write, looked at before its work: it takes nobody's place, and does not fail after it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gcc_search.errors import ResultsError
from gcc_search.storage.place import is_url


def check_here(option: str, path: Path) -> None:
    """Nothing, where `path`, the value of `option`, is one of this machine's.

    Raises:
        ResultsError: it is the URL of a bucket, which would become a folder named `s3:`.
    """
    if is_url(str(path)):
        # A Path has one slash where a URL has two.
        scheme, _, rest = str(path).partition(":/")
        rule = "must be a path on this machine"
        raise ResultsError(f"{option}: {rule}, got {scheme}://{rest.lstrip('/')}; write it here, then copy it there")


def check_target(option: str, path: Path, *, inputs: Sequence[Path]) -> None:
    """Nothing, where a file can be written to `path`, on this machine, and is none of `inputs`, which are read.

    Raises:
        ResultsError: a folder, an input, or a place that cannot be written to.
    """
    if path.is_dir():
        raise ResultsError(f"{option}: {path}: must be a file, got a folder; name a file in it")
    if path.exists() and any(place.exists() and place.samefile(path) for place in inputs):
        raise ResultsError(f"{option}: {path}: must be another file than those that are read; choose another name")
    check_place(option, path)


def check_place(option: str, path: Path) -> None:
    """Nothing, where a file can be made at `path`.

    Raises:
        ResultsError: it would lie in a folder that cannot be written to.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ResultsError(
            f"{option}: {path}: must lie in a folder that can be written to, got {parent}; choose another"
        )
