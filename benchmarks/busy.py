"""How busy a search keeps its devices: the real queue over trials that take made-up seconds of a made-up clock."""

from __future__ import annotations

import heapq
import io
import random
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.no_work import write_record
from gcc_search.results.schema import Role
from gcc_search.search import launch
from gcc_search.search.job_queue import JobQueue
from gcc_search.search.jobs import Job
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.search.recall import make_queue
from gcc_search.space import SearchSpace

# Seconds of a step over ResNet18's, as on an H100 (README.md).
NETWORKS = {"resnet18": 1.0, "resnet50": 2.8, "convnext_tiny": 4.4}
# A baseline has one view; a trial of many explanation terms or few takes a tenth more or less.
SHARES: dict[Role, float] = {"start": 0.6, "baseline": 0.6, "trial": 1.0}
SPREAD = 0.1
ROUNDS = 3
ALPHA = {"alpha": {"distribution": "log_uniform_values", "min": 1e-3, "max": 10}}
SEEDS = {"seed": {"values": [0, 1, 2]}}
RATES = {"lr": {"values": [1e-3, 2e-3, 5e-3, 1e-2, 2e-2]}}
SPACE: dict[str, Any] = {
    "name": "busy",
    "networks": ["resnet18"],
    "weights": "none",
    "data": {"name": "shapes", "num_images": 120},
    "recipe": {"epochs": 2, "image_size": 64},
    "parameters": ALPHA,
    "metrics": [{"name": "corrected_consistency"}, {"name": "gini"}],
    "constraints": ["accuracy >= baseline - 1.0"],
}
START = {"weights": "baseline", "start": {"epochs": 2}}
SEARCHES: dict[str, tuple[int, dict[str, Any]]] = {
    "one network": (8, {"run_cap": 48}),
    "one network, three seeds": (8, {"run_cap": 48, "parameters": ALPHA | SEEDS}),
    "one network, five learning rates": (8, {"run_cap": 48, "parameters": ALPHA | RATES}),
    "three networks": (8, {"run_cap": 60, "networks": list(NETWORKS)}),
    "three networks, three seeds": (8, {"run_cap": 60, "networks": list(NETWORKS), "parameters": ALPHA | SEEDS}),
    "one network from a start network": (8, {"run_cap": 48, **START}),
    "one network from three start networks": (8, {"run_cap": 48, "parameters": ALPHA | SEEDS, **START}),
    "three networks, three seeds, 32 devices": (
        32,
        {"run_cap": 240, "networks": list(NETWORKS), "parameters": ALPHA | SEEDS},
    ),
}


# A network that was trained, and the seconds it took.
Done = tuple[Job, float]


def measure_busy() -> dict[str, Any]:
    """The section of the results file, printed as well."""
    rows = [_measure(name, slots, changes) for name, (slots, changes) in SEARCHES.items()]
    table = Table(title="from first to last trial, over all devices busy all the time", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "search" else "right")
    for row in rows:
        table.add_row(*(f"{item:.3f}" if isinstance(item, float) else str(item) for item in row.values()))
    Console().print(table)
    return {"busy": rows}


def _measure(name: str, slots: int, changes: dict[str, Any]) -> dict[str, Any]:
    searches = [_search(slots, changes, seed) for seed in range(ROUNDS)]
    return {
        "search": name,
        "devices": slots,
        "trials": changes["run_cap"],
        "ours": statistics.mean(took * slots / sum(map(_length, done)) for took, done in searches),
        "by hand": statistics.mean(_by_hand(done, slots) * slots / sum(map(_length, done)) for _, done in searches),
    }


def _search(slots: int, changes: dict[str, Any], seed: int) -> tuple[float, list[Done]]:
    """When the last of its networks ends, and all of them in the order in which they began."""
    with tempfile.TemporaryDirectory(prefix="gcc-search-bench-") as folder:
        queue, run = _begin(Path(folder), slots, changes)
        draw, now = random.Random(seed), 0.0
        done: list[Done] = []
        running: list[tuple[float, str]] = []
        while True:
            while len(running) < slots and isinstance(config := queue.suggest(f"{len(done)}"), dict):
                job = Job.from_config(config)
                seconds = SHARES[job.identity.role] * NETWORKS[job.settings.network]
                seconds *= draw.uniform(1 - SPREAD, 1 + SPREAD)
                heapq.heappush(running, (now + seconds, f"{len(done)}"))
                done.append((job, seconds))
                write_record(job, run, "benchmark", seconds=seconds)
            if not running:
                return now, done
            now, name = heapq.heappop(running)
            queue.on_trial_complete(name)


def _by_hand(done: list[Done], slots: int) -> float:
    """When the last one ends where all wait for what some need: start networks, then baselines, then trials in turn."""
    free = [0.0] * slots
    for role in SHARES:
        of_role = sorted((job.id[-4:], length) for job, length in done if job.identity.role == role)
        free = [max(free)] * slots
        for _, length in of_role:
            heapq.heapreplace(free, free[0] + length)
    return max(free)


def _begin(folder: Path, slots: int, changes: dict[str, Any]) -> tuple[JobQueue, Path]:
    console = Console(file=io.StringIO())
    space = SearchSpace.model_validate(SPACE | changes)
    prepared = prepare_search(space, SearchOptions(out=folder, gpus=0, command="benchmark"), console)
    machines = replace(prepared.machines, num_cpus=slots, slots=slots, cpus_per_trial=1)
    prepared = replace(prepared, machines=machines)
    prepared.run.mkdir()
    launch._write_run(prepared)
    return make_queue(prepared, console), prepared.run


def _length(done: Done) -> float:
    return done[1]
