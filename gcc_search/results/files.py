"""Files of a run directory as they are read: whole ones in, a line that a user reads for all else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gcc_search.errors import DiskError, ResultsError
from gcc_search.results.checks import shown
from gcc_search.results.schema import READ_VERSIONS
from gcc_search.results.writer import checksum

REDO = "delete its folder to have it redone"
# Of run.json, whose folder is the whole run.
_KEEP = "copy it again from where it is whole; keep its folder, whose trials this says nothing of"


def way_out(path: Path) -> str:
    """What helps where the record at `path` is torn or changed."""
    return _KEEP if path.name == "run.json" else REDO


def read_json(path: Path) -> dict[str, Any]:
    """A file that `writer.write_json` wrote, its checksum verified.

    Raises:
        ResultsError: missing, not readable, cut short, changed by hand or by the disk.
    """
    text = read_bytes(path, missing="was the folder copied whole?")
    try:
        content = json.loads(text)
        is_ours = isinstance(content, dict) and content.get("sha256") == checksum(content)
    except (ValueError, RecursionError):
        raise ResultsError(f"{path}: must be whole JSON, got a torn file; {way_out(path)}") from None
    if not is_ours:
        raise ResultsError(f"{path}: checksum must match, got another: the file was changed; {way_out(path)}")
    return dict(content)


def read_bytes(path: Path, *, missing: str) -> bytes:
    """What the file holds. `missing`: the end of the line where there is none.

    Raises:
        ResultsError: there is none. DiskError: it cannot be read.
    """
    with told_by_name(path, missing=missing):
        return path.read_bytes()


@contextmanager
def told_by_name(path: Path, *, missing: str) -> Iterator[None]:
    """What the disk refuses, as the line that a user reads."""
    try:
        yield
    except FileNotFoundError:
        raise ResultsError(f"{path}: must exist, got nothing; {missing}") from None
    except OSError as error:
        raise DiskError(f"{path}: must be readable, got: {error.strerror}; check its owner and the disk") from None


def check_version(path: Path, version: object) -> None:
    """Raises ResultsError where `path` was written by another version than those that are read."""
    if version not in READ_VERSIONS:
        rule = f"schema_version must be {' or '.join(map(str, READ_VERSIONS))}"
        raise ResultsError(f"{path}: {rule}, got {shown(version)}; read it with the gcc-search that wrote it")
