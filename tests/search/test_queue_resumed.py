"""A search that is cut and resumed ends as the undisturbed one, wherever it is cut and however its baseline ends."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from rich.console import Console

from gcc_search.search.jobs import Job
from gcc_search.search.recall import make_queue
from tests.search.test_job_queue import leave, prepare, recalled

SLOTS = 3
End = tuple[str, str, bool]


def play(out: Path, seed: int, *, cut: int | None) -> tuple[list[End], bool]:
    """How each trial ended, and whether it was feasible; whether all is done.

    What a job comes to, and in how many ticks of the clock, is its own; a job that is cut has as many left to go.

    Args:
        cut: after so many ticks the driver is lost with all that runs; None: never.
    """
    draw = random.Random(seed)
    constraints = draw.choice([[], ["accuracy >= baseline - 1"]])
    prepared = prepare(out, run_cap=draw.randint(2, 5), constraints=constraints, seed=seed)
    run, queue = prepared.run, make_queue(prepared, Console(file=io.StringIO()))
    of_baseline = draw.choice(["finished", "finished", "diverged"])
    running: dict[str, Job] = {}
    left: dict[str, int] = {}
    number = ticks = 0
    while True:
        while len(running) < SLOTS and isinstance(config := queue.suggest(f"ray-{number}"), dict):
            job = running[f"ray-{number}"] = Job.from_config(config)
            left.setdefault(job.id, random.Random(f"{seed} {job.id}").randint(1, 6))
            leave(job, run, "running", 50.0)
            number += 1
        if not running:
            break
        for name, job in list(running.items()):
            left[job.id] -= 1
            # One whose files are not whole, as none are here, is trained again.
            if left[job.id] <= 0:
                own = random.Random(f"{seed} {job.id} ends")
                status = own.choice(["finished", "finished", "collapsed", "diverged"]) if job.is_trial else of_baseline
                leave(job, run, status, own.choice([80.0, 79.5, 75.0, 65.0]) if job.is_trial else 80.0)
                queue.on_trial_complete(name)
                del running[name]
        ticks += 1
        if ticks == cut:
            for job in running.values():
                leave(job, run, "interrupted", 50.0)
            running, queue = {}, recalled(prepared)
    trials = [outcome for outcome in queue.outcomes if outcome.job.is_trial]
    return sorted((item.job.id, item.record.status, item.feasible) for item in trials), queue.is_done


@pytest.mark.parametrize("seed", range(12))
def test_wherever_a_search_is_cut_it_ends_as_the_undisturbed_one(tmp_path, seed):
    undisturbed = play(tmp_path, seed, cut=None)
    for cut in (1, 2, 3, 5):
        (out := tmp_path / str(cut)).mkdir()
        assert play(out, seed, cut=cut) == undisturbed
