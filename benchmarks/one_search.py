"""One search over trials that train nothing, in a process of its own: prints a line of JSON with what it took."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from rich.console import Console

from benchmarks.no_work import METRICS, Pace, record_only, report_only
from benchmarks.spent import Spent
from gcc_search.results.reader import read_run
from gcc_search.search import bucket_run, job_queue, launch, progress, scheduler, study, study_copy, watchdog
from gcc_search.search.cluster import local_ray
from gcc_search.search.readiness import Prepared, SearchOptions, prepare_search, reopen_search
from gcc_search.space import SearchSpace

# Its own first line of imports, on purpose: what follows needs the environment that gcc_search.search sets for Ray.
from ray import tune  # isort: skip
from ray.tune.search.optuna import OptunaSearch  # isort: skip

KINDS = ("bare", "optuna", "ours")
SLICES = 10
# For Python, Ray and what the job imports, on a core of its own.
WORKER_START_SECONDS = 2.5
SPACE: dict[str, Any] = {
    "name": "no-work",
    "networks": ["convnet_small"],
    "weights": "none",
    "data": {"name": "shapes", "num_images": 120},
    "recipe": {"epochs": 2, "image_size": 32},
    "parameters": {
        "alpha": {"distribution": "log_uniform_values", "min": 1e-3, "max": 10},
        "beta": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1},
        "p": {"distribution": "uniform", "min": 0.5, "max": 2},
    },
    "metrics": [{"name": "corrected_consistency"}, {"name": "gini"}, {"name": "accuracy"}],
    "constraints": ["accuracy >= baseline - 1.0"],
    "early_terminate": {"type": "asha", "metric": "corrected_consistency", "min_epochs": 1},
}
# What of the driver is timed, by the part that it belongs to.
PARTS: tuple[tuple[str, Any, str], ...] = (
    ("sampler", study.NetworkStudy, "ask"),
    ("study told", study.NetworkStudy, "tell"),
    ("study.db", study_copy.StudyCopy, "begin"),
    ("study.db", study_copy.StudyCopy, "end"),
    ("record read", job_queue, "read_end"),
    ("queue", job_queue.JobQueue, "suggest"),
    ("queue", job_queue.JobQueue, "on_trial_complete"),
    ("early stopping", scheduler.SuccessiveHalving, "on_trial_result"),
    ("screen", progress.SearchScreen, "on_trial_start"),
    ("screen", progress.SearchScreen, "on_trial_result"),
    ("screen", progress.SearchScreen, "on_step_end"),
    ("watchdog", watchdog.Watchdog, "on_step_end"),
    ("watchdog", watchdog.Watchdog, "on_trial_result"),
    ("study sent", bucket_run.StudySender, "on_step_end"),
)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The driver when `trials` had ended. `seconds`, `cpu_seconds` since the first one ended; `parts`: milliseconds."""

    trials: int
    seconds: float
    cpu_seconds: float
    resident_bytes: int
    parts: dict[str, float]


@dataclass
class Marks(tune.Callback):
    """Ray tells it of each trial's end; it notes that after the first `start`, and then `SLICES` times."""

    trials: int
    start: int
    spent: Spent
    marks: list[Mark] = field(default_factory=list)
    write_seconds: float = 0.0
    _done: int = 0

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.write_seconds += result.get("write_seconds", 0.0)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._done += 1
        due = self.start + len(self.marks) * (self.trials - self.start) / SLICES
        if self._done >= due:
            self.marks.append(self._mark())

    def _mark(self) -> Mark:
        return Mark(
            trials=self._done,
            seconds=time.perf_counter(),
            cpu_seconds=time.process_time(),
            resident_bytes=psutil.Process().memory_info().rss,
            parts=self.spent.milliseconds(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.0, help="that each trial sleeps")
    parser.add_argument("--epochs", type=int, default=2, help="after each of which a trial reports")
    asked = parser.parse_args()
    # Whatever Ray prints goes to stderr: stdout is one line.
    out = os.dup(1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="gcc-search-bench-") as folder:
        # Each worker's first trial lasts until all have started.
        pace = Pace(epochs=asked.epochs, seconds=asked.seconds, warm_up=WORKER_START_SECONDS * asked.slots)
        found = measure(asked.kind, Path(folder), pace, trials=asked.trials, slots=asked.slots)
    os.write(out, json.dumps(found).encode() + b"\n")


def measure(kind: str, folder: Path, pace: Pace, *, trials: int, slots: int) -> dict[str, Any]:
    """Seconds, memory and bytes of one search. `slots` trials at a time, on however many cores there are."""
    prepared = _prepare(folder, pace, trials, slots)
    # Of ours, the baseline is one more.
    spent, jobs = Spent(), trials + (kind == "ours")
    marks = Marks(trials=jobs, start=2 * slots if pace.seconds else 1, spent=spent)
    at_start = psutil.Process().memory_info().rss
    load = os.getloadavg()
    with local_ray(prepared.machines) as scratch:
        began, began_cpu = time.perf_counter(), time.process_time()
        if kind == "ours":
            with spent.timed(PARTS), _called_back(marks):
                _search(prepared, pace)
        else:
            _tune_alone(kind, scratch, marks, prepared, pace)
        whole, whole_cpu = time.perf_counter() - began, time.process_time() - began_cpu
        left = _size(prepared.run if kind == "ours" else scratch / "tune")
    resume_seconds = _resume(prepared) if kind == "ours" else None
    first, last = marks.marks[0], marks.marks[-1]
    if last.trials != jobs:
        raise SystemExit(f"{kind}: must end {jobs} trials, got {last.trials}")
    return {
        "kind": kind,
        "trials": trials,
        "slots": slots,
        "trial_sleeps": pace.seconds,
        "epochs": pace.epochs,
        "seconds": whole,
        "cpu_seconds": whole_cpu,
        "milliseconds_per_trial": 1e3 * (last.seconds - first.seconds) / (last.trials - first.trials),
        "cpu_milliseconds_per_trial": 1e3 * (last.cpu_seconds - first.cpu_seconds) / (last.trials - first.trials),
        "load_before": load,
        "load_after": os.getloadavg(),
        "resident_bytes_at_start": at_start,
        "worker_write_milliseconds_per_trial": 1e3 * marks.write_seconds / jobs,
        "left": left,
        "resume_seconds": resume_seconds,
        "marks": [asdict(_since(first, mark)) for mark in marks.marks],
    }


def _since(first: Mark, mark: Mark) -> Mark:
    parts = {name: value - first.parts.get(name, 0.0) for name, value in mark.parts.items()}
    seconds, cpu_seconds = mark.seconds - first.seconds, mark.cpu_seconds - first.cpu_seconds
    return replace(mark, seconds=seconds, cpu_seconds=cpu_seconds, parts=parts)


def _prepare(folder: Path, pace: Pace, trials: int, slots: int) -> Prepared:
    console = Console(file=io.StringIO())
    recipe = SPACE["recipe"] | {"epochs": pace.epochs}
    space = SearchSpace.model_validate(SPACE | {"run_cap": trials, "recipe": recipe})
    prepared = prepare_search(space, SearchOptions(out=folder, gpus=0, command="benchmark"), console)
    return replace(prepared, machines=replace(prepared.machines, num_cpus=slots, slots=slots, cpus_per_trial=1))


def _search(prepared: Prepared, pace: Pace) -> None:
    with (prepared.run.parent / "printed").open("w") as printed:
        result = launch.run_search(
            prepared, Console(file=printed, width=120), job=functools.partial(record_only, pace=pace)
        )
    if result.statuses()["finished"] != prepared.space.run_cap:
        raise SystemExit(f"ours: every trial must be finished, got {result.statuses()}")


def _resume(prepared: Prepared) -> float:
    """Seconds until a search that has ended is read again, its study made anew, and found to have ended."""
    began = time.perf_counter()
    console = Console(file=io.StringIO(), width=120)
    launch.run_search(reopen_search(read_run(prepared.run), prepared.options, console), console)
    return time.perf_counter() - began


@contextlib.contextmanager
def _called_back(marks: Marks) -> Iterator[None]:
    """`run_search` takes no callbacks: they are added where it calls Ray."""
    run: Callable[..., Any] = tune.run

    def with_marks(*arguments: Any, callbacks: list[Any], **others: Any) -> Any:
        return run(*arguments, callbacks=[*callbacks, marks], **others)

    with mock.patch.object(tune, "run", with_marks):
        yield


def _tune_alone(kind: str, scratch: Path, marks: Marks, prepared: Prepared, pace: Pace) -> None:
    machines = prepared.machines
    config: dict[str, Any] = {}
    for name, item in prepared.space.parameters.items():
        assert item.min is not None, "all of this space's parameters have a range"
        assert item.max is not None, "likewise"
        draw = tune.loguniform if item.distribution == "log_uniform_values" else tune.uniform
        config[name] = draw(item.min, item.max)
    search = OptunaSearch(metric=list(METRICS), mode=["max"] * len(METRICS), seed=0) if kind == "optuna" else None
    tune.run(
        tune.with_parameters(report_only, pace=pace),
        name="search",
        config=config,
        storage_path=str(scratch / "tune"),
        resources_per_trial={"cpu": machines.cpus_per_trial, "gpu": 0},
        num_samples=prepared.space.run_cap or 0,
        search_alg=search,
        max_concurrent_trials=machines.slots,
        callbacks=[marks],
        verbose=0,
        reuse_actors=True,
        raise_on_failed_trial=False,
    )


def _size(folder: Path) -> dict[str, int]:
    """Bytes that a run left: of all files, as the disk counts them in blocks, and of study.db."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    database = folder / "study.db"
    return {
        "files": len(files),
        "bytes": sum(file.st_size for file in files),
        "disk_bytes": sum(512 * file.st_blocks for file in files),
        "study_bytes": database.stat().st_size if database.exists() else 0,
    }


if __name__ == "__main__":
    main()
