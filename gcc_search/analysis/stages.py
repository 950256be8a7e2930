"""How far an analysis is: a bar for each stage on a terminal, once it has taken a while; nothing elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# (stage, done, total); total 0: not known.
Tell = Callable[[str, int, int], None]

# What is done sooner needs no bar.
PATIENCE_SECONDS = 1.5


def untold(stage: str, done: int, total: int) -> None:
    """For callers who do not ask."""


@contextmanager
def show_stages(console: Console, *, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[Tell]:
    """What the analysis is to call as it goes on. The bars are gone when it is done."""
    if not console.is_terminal:
        yield untold
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    tasks: dict[str, TaskID] = {}
    begun = time.monotonic()

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total or None)
        progress.update(tasks[stage], completed=done, total=total or None)
        if time.monotonic() - begun > patience_seconds and not progress.live.is_started:
            progress.start()

    try:
        yield tell
    finally:
        progress.stop()
