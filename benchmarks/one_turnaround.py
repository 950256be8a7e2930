"""A real search on one slot, and the moments of its trials: when each was scored, and when the next one began."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console

from gcc_search import keeper, trial
from gcc_search.search import launch
from gcc_search.search.cluster import local_ray
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.search.trainable import train_job
from gcc_search.space import SearchSpace

# Its own first line of imports, on purpose: what follows needs the environment that gcc_search.search sets for Ray.
from ray import tune  # isort: skip

TRIALS = 4
# As on a GPU, trials follow each other: each start network is read from a file.
SPACE: dict[str, Any] = {
    "name": "turnaround",
    "networks": ["resnet18"],
    "weights": "baseline",
    "start": {"epochs": 1, "lr": 0.01},
    "start_weights": "none",
    "data": {"name": "shapes", "num_images": 120},
    "recipe": {"epochs": 1, "image_size": 64},
    "evaluation": {"insertion_images": 2},
    "parameters": {
        "alpha": {"distribution": "log_uniform_values", "min": 1e-3, "max": 10},
        "beta": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1},
    },
    "metrics": [{"name": "corrected_consistency"}, {"name": "gini"}],
    "run_cap": TRIALS,
}
# What lies between the moments that are noted: those of the trial before, then the next one's. A trial ends when its
# test split is scored; its network was saved before that, which is told beside.
OF_ENDED, OF_NEXT = ("scored", "kept", "returned"), ("begun", "ready", "step 1", "step 2")
PARTS = ("kept", "reported, memory given back", "handed out", "made ready", "first step", "second step")
TURNAROUND = PARTS[:4]


def timed_job(config: dict[str, Any], *, marks: str, **given: Any) -> None:
    """`train_job`, whose moments are noted in the file `marks`."""
    path = Path(marks)

    def note(mark: str) -> None:
        line = json.dumps({"job": config["id"], "mark": mark, "at": time.monotonic()})
        with path.open("a") as file:
            file.write(line + "\n")

    def train_epoch(*arguments: Any, on_step: Callable[[int, int], None], **others: Any) -> Any:
        note("ready")
        steps = itertools.count(1)

        def noted(done: int, total: int) -> None:
            note(f"step {next(steps)}")
            on_step(done, total)

        return trained(*arguments, on_step=noted, **others)

    def noting(call: Callable[..., Any], mark: str) -> Callable[..., Any]:
        def noted(*arguments: Any, **others: Any) -> Any:
            answer = call(*arguments, **others)
            note(mark)
            return answer

        return noted

    def save_weights(*arguments: Any) -> None:
        note("saving")
        saved(*arguments)
        note("saved")

    trained, saved = (vars(trial)[name] for name in ("train_epoch", "save_weights"))
    note("begun")
    with (
        mock.patch.object(trial, "train_epoch", train_epoch),
        mock.patch.object(trial, "save_weights", save_weights),
        mock.patch.object(trial, "_end", noting(trial._end, "scored")),
        mock.patch.object(keeper.Keeper, "finish", noting(keeper.Keeper.finish, "kept")),
    ):
        train_job(config, **given)
    note("returned")


def measure_search(*, reuse: bool) -> list[dict[str, float]]:
    """For each trial that follows another on the one slot: seconds by part, and of its first step."""
    with tempfile.TemporaryDirectory(prefix="gcc-search-bench-") as folder:
        marks = Path(folder, "marks")
        console = Console(file=io.StringIO(), width=120)
        prepared = prepare_search(
            SearchSpace.model_validate(SPACE), SearchOptions(out=Path(folder), gpus=0, command="benchmark"), console
        )
        prepared = replace(prepared, machines=replace(prepared.machines, num_cpus=1, slots=1, cpus_per_trial=1))
        job = functools.partial(timed_job, marks=str(marks))
        with local_ray(prepared.machines), _actors(reuse=reuse):
            result = launch.run_search(prepared, console, job=job)
        if result.statuses()["finished"] != TRIALS:
            raise SystemExit(f"every trial must be finished, got {result.statuses()}")
        lines = marks.read_text().splitlines()
    moments: dict[str, dict[str, float]] = {}
    for line in lines:
        noted = json.loads(line)
        moments.setdefault(noted["job"], {})[noted["mark"]] = noted["at"]
    # The start network and the baseline warm up.
    return [_seconds(before, after) for before, after in itertools.pairwise(list(moments.values())[1:])]


def _seconds(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    chain = [*(before[mark] for mark in OF_ENDED), *(after[mark] for mark in OF_NEXT)]
    parts = dict(zip(PARTS, (right - left for left, right in itertools.pairwise(chain)), strict=True))
    whole = {"turnaround": sum(parts[part] for part in TURNAROUND)}
    return whole | parts | {"network saved before": before["saved"] - before["saving"]}


@contextlib.contextmanager
def _actors(*, reuse: bool) -> Iterator[None]:
    """Ray's own default is to end each trial's process with it."""
    run: Callable[..., Any] = tune.run

    def as_asked(*arguments: Any, **others: Any) -> Any:
        return run(*arguments, **others | {"reuse_actors": reuse})

    with mock.patch.object(tune, "run", as_asked):
        yield
