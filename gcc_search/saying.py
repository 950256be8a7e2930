"""One line to a person, as it is: for those that load neither torch nor Ray to say it."""

from __future__ import annotations

from rich.console import Console

from gcc_search.atomic import as_told
from gcc_search.letters import printable


def say(console: Console, line: str) -> None:
    """A plain line: names and paths hold brackets, and are copied better unwrapped; what is no letter is escaped."""
    pass_on(console, printable(as_told(line), kept="\n"))


def pass_on(console: Console, line: str) -> None:
    """A line that another process has said, with its colours."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
