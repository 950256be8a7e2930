"""What comes out of Ray when a search ends by it, as a line for the user: Ray wraps what is raised below it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gcc_search.atomic import is_for_want_of_room
from gcc_search.errors import DiskError, DiskFullError, ResultsError, StorageError


def mishap_in(error: BaseException, scratch: Path) -> ResultsError | None:
    """What of a disk or of a bucket ended the search; None where it was something else.

    Args:
        scratch: where Ray keeps its own files.
    """
    found = list(_chain(error))
    ours = next((one for one in found if isinstance(one, DiskError | DiskFullError | StorageError)), None)
    if ours is None and any(isinstance(one, OSError) and is_for_want_of_room(one) for one in found):
        return DiskFullError(f"{scratch}: disk must have room for Ray's own files, got none; delete something there")
    return ours


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
