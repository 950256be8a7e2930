"""A trial ends as its rows say, whenever its baseline does: the real queue, over rows that workers leave."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gcc_search.collapse import Judge
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import EpochRow
from gcc_search.results.writer import write_epochs, write_trial
from gcc_search.search.jobs import Job
from gcc_search.search.readiness import Prepared
from gcc_search.search.recall import make_queue
from tests.search.test_job_queue import leave, prepare, recalled
from tests.test_collapse import random_rows, rows

EPOCHS = 10
REACHED = [50.0, 70.0, 80.0, 85.0, 88.0, 90.0, 90.0, 90.0, 90.0, 90.0]
DIPS = [30.0, 50.0, 45.0, 55.0, 55.0, 75.0, 80.0, 84.0, 86.0, 88.0]
IN_TIME = ("collapsed", "accuracy 15.0 points under the baseline's in epoch 4")


def prepared_run(out: Path) -> Prepared:
    recipe = {"epochs": EPOCHS, "lr": 0.01, "image_size": 32, "batch_size": 16}
    return prepare(out, recipe=recipe, collapse={"points": 10.0}, constraints=[], run_cap=1)


class Worker:
    """Trains a job a row at a time, and leaves of it what a real one does."""

    def __init__(self, run: Path, job: Job, left: Sequence[EpochRow]) -> None:
        self.job, self.folder = job, job.folder(run)
        self._left, self._done, self._verdict = list(left), [], None
        self._baseline = run / "baselines" / (job.identity.baseline or "")
        self._known = 0
        self._judge = Judge(job.settings.collapse, self._look if job.is_trial else None, epochs=EPOCHS)
        leave(job, run, "running", 50.0)

    def _look(self) -> list[float]:
        path = self._baseline / "epochs.parquet"
        reached = read_trial(self._baseline).epochs(["accuracy_points"]) if path.exists() else None
        points = reached["accuracy_points"].to_pylist() if reached else []
        self._known = len(points)
        return points

    def step(self) -> bool:
        """One epoch more; whether it has ended."""
        row = self._left.pop(0)
        self._done.append(row)
        write_epochs(self.folder, self._done)
        self._verdict = self._judge.verdict(row)
        return self._verdict is not None or not self._left

    def end(self, *, notes_baseline: bool = True) -> None:
        status, reason = self._verdict or ("finished", None)
        record = read_trial(self.folder).record
        known = self._known if self.job.is_trial and notes_baseline else None
        validation = {name: value for name, value in self._done[-1].to_dict().items() if name != "loss"}
        ended = {"status": status, "reason": reason, "epochs_done": len(self._done), "baseline_epochs": known}
        write_trial(self.folder, replace(record, validation=validation, **ended))


def begun(out: Path, trial_rows: Sequence[EpochRow]):
    """The run, its queue, and the workers of a baseline and a trial by the name that the queue knows them by."""
    prepared = prepared_run(out)
    queue = make_queue(prepared, Console(file=io.StringIO()))
    workers = {}
    for name, left in (("ray-0", rows(*REACHED)), ("ray-1", trial_rows)):
        workers[name] = Worker(prepared.run, Job.from_config(queue.suggest(name)), left)
    return prepared, queue, workers


def ended_as(run: Path) -> tuple[str, str | None]:
    record = read_trial(run / "trials" / "convnet_small-0000").record
    return record.status, record.reason


@pytest.mark.parametrize("seed", range(12))
def test_whenever_its_baseline_ends_the_same_rows_are_the_same_status_and_reason(tmp_path, seed):
    draw = random.Random(seed)
    trial_rows = random_rows(draw, EPOCHS) if seed else rows(*DIPS)
    found = set()
    for order in range(5):
        (out := tmp_path / str(order)).mkdir()
        prepared, queue, workers = begun(out, trial_rows)
        # The first: the baseline before all; the last: after all. Between them, by chance.
        chance = (1.0, 0.8, 0.5, 0.2, 0.0)[order]
        ready: list[str] = []
        training = dict(workers)
        while training or ready:
            of_baseline = [name for name in (*training, *ready) if name == "ray-0"]
            others = [name for name in (*training, *ready) if name == "ray-1"]
            (name,) = (of_baseline if draw.random() < chance else others) or of_baseline or others
            if name in ready:
                # Between its last row and the queue's hearing of it, the test split is scored.
                workers[name].end()
                queue.on_trial_complete(name)
                ready.remove(name)
            elif training[name].step():
                del training[name]
                ready.append(name)
        (outcome,) = (outcome for outcome in queue.outcomes if outcome.job.is_trial)
        assert (outcome.record.status, outcome.record.reason) == ended_as(prepared.run)
        recalled(prepared)
        found.add(ended_as(prepared.run))
    assert len(found) == 1
    assert seed or found == {IN_TIME}


def trained_ahead(out: Path, **how: bool) -> Prepared:
    """A run whose driver is lost after its baseline has ended and the trial, long before: neither was heard of."""
    prepared, _, workers = begun(out, rows(*DIPS))
    for name in ("ray-1", "ray-0"):
        while not workers[name].step():
            pass
        workers[name].end(**how)
    return prepared


def test_a_trial_that_nobody_judged_before_the_driver_was_lost_is_judged_when_it_goes_on(tmp_path):
    prepared = trained_ahead(tmp_path)
    assert ended_as(prepared.run) == ("finished", None)
    recalled(prepared)
    assert ended_as(prepared.run) == IN_TIME


def test_what_older_versions_recorded_as_finished_stays_so(tmp_path):
    prepared = trained_ahead(tmp_path, notes_baseline=False)
    recalled(prepared)
    assert ended_as(prepared.run) == ("finished", None)
