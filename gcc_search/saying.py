"""A line to a person, as it is, and how far something is: for those that load neither torch nor Ray to say it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gcc_search.atomic import as_told
from gcc_search.letters import printable


def say(console: Console, line: str) -> None:
    """A plain line: names and paths hold brackets, and are copied better unwrapped; what is no letter is escaped."""
    pass_on(console, printable(as_told(line), kept="\n"))


def pass_on(console: Console, line: str) -> None:
    """A line that another process has said, with its colours."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(console: Console, description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with an estimate, on a terminal, gone at the end; yields whom to call with (done, in all)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
