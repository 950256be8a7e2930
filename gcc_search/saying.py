"""One line to a person, as it is: for those that load neither torch nor Ray to say it."""

from __future__ import annotations

from rich.console import Console

from gcc_search.atomic import as_told


def say(console: Console, line: str) -> None:
    """A plain line: names and paths hold brackets, and are copied better unwrapped."""
    console.print(as_told(line), markup=False, highlight=False, soft_wrap=True)
