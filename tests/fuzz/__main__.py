"""`python -m tests.fuzz --inputs 100000 --seed 0`: the long form of the fuzz tests, as a table of counts."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.rounds import Count, run_task
from tests.fuzz.targets import make_targets

# Inputs of one task: short enough to share the work evenly, long enough to pay for its run directory.
BATCH = 1000


def main() -> int:
    """0 where nothing but our own errors came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    began = time.monotonic()
    # Not forked: this process has threads, and a child that is forked while one of them holds a lock waits for ever.
    pool = ProcessPoolExecutor(asked.processes, mp_context=multiprocessing.get_context("spawn"))
    with tempfile.TemporaryDirectory(prefix="gcc-fuzz-") as folder, pool:
        targets = make_targets(Path(folder) / "names")
        tasks = [
            (place, min(BATCH, round(asked.inputs * target.share) - start), asked.seed + start, folder)
            for place, target in enumerate(targets)
            for start in range(0, round(asked.inputs * target.share), BATCH)
        ]
        counts = [Count(target=target.name) for target in targets]
        for (place, *_), found in zip(tasks, pool.map(run_task, tasks), strict=True):
            _add(counts[place], found)
    console = Console(width=110)
    console.print(_table(counts))
    for count in counts:
        for name, number in count.others.most_common():
            console.print(f"{count.target}: {number} x {name}\n{count.examples[name]}", markup=False, style="red")
    console.print(f"{time.monotonic() - began:.0f} s, seed {asked.seed}")
    return 1 if any(count.others for count in counts) else 0


def _add(total: Count, part: Count) -> None:
    total.accepted += part.accepted
    total.refused += part.refused
    total.others += part.others
    total.examples = part.examples | total.examples
    if part.slowest_seconds > total.slowest_seconds:
        total.slowest_seconds, total.slowest = part.slowest_seconds, part.slowest


def _table(counts: list[Count]) -> Table:
    table = Table("target", "inputs", "accepted", "refused", "others", "slowest, CPU s", "which", box=None)
    for count in counts:
        numbers = (count.inputs, count.accepted, count.refused, count.others.total())
        table.add_row(count.target, *map(str, numbers), f"{count.slowest_seconds:.2f}", count.slowest[:30])
    totals = [sum(getattr(count, name) for count in counts) for name in ("inputs", "accepted", "refused")]
    others = sum(count.others.total() for count in counts)
    table.add_row("all", *map(str, totals), str(others), "", "", style="bold")
    return table


if __name__ == "__main__":
    sys.exit(main())
