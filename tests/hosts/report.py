"""What was done and what came of it: a line a step while it runs, a table and a JSON file at the end."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.hosts.site import Site


@dataclass
class Result:
    """Of one step: what came of it, its figures, and what did not hold."""

    came: str
    problems: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is done."""

    name: str
    what: str
    do: Callable[[Site], Result]


@dataclass(frozen=True, kw_only=True)
class Done:
    name: str
    what: str
    seconds: float
    held: bool
    result: Result


def do(step: Step, site: Site, console: Console) -> Done:
    began = time.monotonic()
    try:
        result = step.do(site)
    except Exception as error:
        # The others are to be tried all the same.
        result = Result(came="broke off", problems=[f"{type(error).__name__}: {error}"])
        (site.base / "printed" / f"{step.name}-traceback.txt").write_text(traceback.format_exc())
    seconds = round(time.monotonic() - began, 1)
    done = Done(name=step.name, what=step.what, seconds=seconds, held=not result.problems, result=result)
    console.print(f"{seconds:6.1f} s  {step.name}: {result.came}", markup=False, highlight=False, soft_wrap=True)
    for line in result.problems:
        console.print(f"          {line}", style="red", markup=False, highlight=False, soft_wrap=True)
    return done


def print_table(steps: list[Done], console: Console) -> None:
    table = Table("step", "what was done", "what came of it", "s", "held", box=None, padding=(0, 2, 0, 0))
    for step in steps:
        held = "yes" if step.held else "[red]no[/red]"
        table.add_row(step.name, step.what, step.result.came, f"{step.seconds:.0f}", held)
    console.print(table)


def write_json(path: Path, steps: list[Done], **about: Any) -> None:
    path.write_text(json.dumps(about | {"steps": [asdict(step) for step in steps]}, indent=1))
