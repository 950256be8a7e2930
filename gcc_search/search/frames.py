"""The live table of a search that runs elsewhere: lines of its log, told apart by their first character."""

from __future__ import annotations

import json
import os

# Seconds between two tables. Set for a search that is watched from elsewhere: who does draws the table from such lines,
# and shows them nowhere.
FRAMES_VARIABLE = "GCC_SEARCH_FRAMES"
# ASCII's record separator: no line of ours begins with it.
_MARK = "\x1e"


def frame_seconds() -> float | None:
    """None: nobody draws the table."""
    seconds = os.environ.get(FRAMES_VARIABLE)
    return None if seconds is None else float(seconds)


def write_frame(table: str) -> str:
    """One line that holds `table`, ANSI colours included."""
    return _MARK + json.dumps(table)


def read_frame(line: str) -> str | None:
    """The table in a line that `write_frame` made; None for any other line."""
    if not line.startswith(_MARK):
        return None
    try:
        return str(json.loads(line[1:]))
    except ValueError:
        # Cut off, where a log was.
        return ""
