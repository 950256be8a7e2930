"""`python -m tests.faults --kills 100 --seed 0`: the long form of the fault suite, as a table and a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.census import Faults
from tests.faults.lives import Life, run_lives, run_undisturbed

MEANINGS = {
    "lost": "finished trials lost",
    "twice": "finished trials trained twice",
    "zombies": "zombies: Optuna trials, records, processes",
    "changed": "results that changed",
    "left": "files left over",
    "failed": "searches that ended badly",
}


def main() -> int:
    """0 where nothing was lost, trained twice, changed or left, and every kill hit."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-life", type=int, default=7, help="kills in one search's life")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of every kill; default: faults.json in a temporary folder")
    asked = parser.parse_args()
    console, folder = Console(), Path(tempfile.mkdtemp(prefix="gcc-faults-"))
    os.environ.setdefault("GCC_SEARCH_CACHE", str(folder / "cache"))
    began = time.monotonic()
    undisturbed = run_undisturbed(folder / "undisturbed")
    console.print(f"undisturbed: {undisturbed.events[-1].seconds:.0f} s")
    lives: list[Life] = []
    for life in run_lives(undisturbed, folder, kills=asked.kills, per_life=asked.per_life, seed=asked.seed):
        lives.append(life)
        told = ", ".join(f"{kill.victim} in {kill.phase}" for kill in life.kills)
        console.print(f"life {len(lives)}: {life.seconds:.0f} s: {told}", highlight=False, soft_wrap=True)
        for line in life.faults.lines():
            console.print(f"  {line}", style="red", markup=False, soft_wrap=True)
        _write(asked.out or folder / "faults.json", asked, lives, time.monotonic() - began)
    console.print(_by_phase(lives))
    console.print(_counted(lives))
    console.print(
        f"{time.monotonic() - began:.0f} s; every kill: {asked.out or folder / 'faults.json'}", soft_wrap=True
    )
    return 1 if any(life.faults.lines() for life in lives) else 0


def _write(path: Path, asked: argparse.Namespace, lives: list[Life], seconds: float) -> None:
    content = {
        "command": f"python -m tests.faults --kills {asked.kills} --per-life {asked.per_life} --seed {asked.seed}",
        "seconds": round(seconds, 1),
        "counts": {name: count for name, (_, count) in zip(MEANINGS, _counts(lives), strict=True)},
        "lives": [asdict(life) for life in lives],
    }
    path.write_text(json.dumps(content, indent=1))


def _counts(lives: list[Life]) -> list[tuple[str, int]]:
    assert list(MEANINGS) == [item.name for item in fields(Faults)]
    return [(text, sum(len(getattr(life.faults, name)) for life in lives)) for name, text in MEANINGS.items()]


def _by_phase(lives: list[Life]) -> Table:
    table = Table("killed", "in", "kills", box=None)
    for (victim, phase), count in Counter((k.victim, k.phase) for life in lives for k in life.kills).most_common():
        table.add_row(victim, phase, str(count))
    table.add_row("all", f"{len(lives)} searches", str(sum(len(life.kills) for life in lives)), style="bold")
    return table


def _counted(lives: list[Life]) -> Table:
    table = Table("counted against the undisturbed search", "cases", box=None)
    for text, count in _counts(lives):
        table.add_row(text, str(count))
    return table


sys.exit(main())
