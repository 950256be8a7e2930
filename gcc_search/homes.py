"""Paths that begin with somebody's home folder, as people write them."""

from __future__ import annotations

from pathlib import Path

from gcc_search.errors import DataError, GccSearchError


def expanded(path: str | Path, *, where: str, kind: type[GccSearchError] = DataError) -> Path:
    """`path`, which `where` says, with a home folder for `~` or `~NAME`.

    Raises:
        GccSearchError: of this `kind`: a user that there is not, or a character that no path holds.
    """
    if "\0" in str(path):
        raise kind(f"{where}: must be a path, got a null character in it: {str(path)!r}; write it again")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise kind(f"{where}: must begin with a home that there is, got {path}; write the whole path") from None
