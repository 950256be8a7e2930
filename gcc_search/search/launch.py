"""One search from a space file to finished trials."""

from __future__ import annotations

import logging
import socket
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ray import tune
from rich.console import Console

from gcc_search.atomic import remove_leftovers
from gcc_search.errors import ResultsError
from gcc_search.occupancy import only_writer
from gcc_search.preparation import DataSet
from gcc_search.recording import package_versions
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.schema import RunRecord
from gcc_search.results.writer import write_run, write_trial
from gcc_search.search.cluster import local_ray
from gcc_search.search.job_queue import JobQueue, Outcome
from gcc_search.search.lock import only_driver
from gcc_search.search.progress import SearchScreen
from gcc_search.search.readiness import Prepared
from gcc_search.search.recall import make_queue, make_scheduler, recall
from gcc_search.search.scheduler import SuccessiveHalving
from gcc_search.search.trainable import train_job


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    run: Path
    outcomes: tuple[Outcome, ...]
    num_interrupted: int
    interrupted: bool

    def statuses(self) -> Counter[str]:
        """How the trials (not the baselines) ended."""
        return Counter(outcome.record.status for outcome in self.outcomes if outcome.job.is_trial)

    @property
    def exit_code(self) -> int:
        """0: all trials ended as trials do; 2: some failed; 130: stopped by the user."""
        if self.interrupted:
            return 130
        return 2 if any(outcome.record.status == "failed" for outcome in self.outcomes) else 0


def run_search(prepared: Prepared, console: Console) -> SearchResult:
    """Trains baselines and trials; every one of them leaves its directory.

    Ctrl-C ends it within seconds: what was running is recorded as interrupted.

    Raises:
        ResultsError: another process runs this search.
    """
    run = prepared.run
    run.mkdir(parents=True, exist_ok=True)
    with only_driver(run):
        _clear(run)
        if (run / "run.json").exists():
            queue, scheduler = recall(prepared, read_run(run), console)
        else:
            _write_run(prepared)
            queue, scheduler = make_queue(prepared), make_scheduler(prepared.space)
        interrupted = False
        try:
            _tune(prepared, queue, scheduler, console)
        except KeyboardInterrupt:
            interrupted = True
        num_interrupted = _close_running(run, queue)
    return SearchResult(
        run=run, outcomes=tuple(queue.outcomes), num_interrupted=num_interrupted, interrupted=interrupted
    )


def _clear(run: Path) -> None:
    """Waits for the workers of a driver that was killed, then removes what the kill left half-written."""
    for folder in run.glob("*/*/"):
        with only_writer(folder):
            pass
    remove_leftovers(run)


def _tune(prepared: Prepared, queue: JobQueue, scheduler: SuccessiveHalving | None, console: Console) -> None:
    with local_ray(prepared.machines) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        space, machines = prepared.space, prepared.machines
        trainable = tune.with_parameters(
            train_job,
            run=str(prepared.run.resolve()),
            device="cuda" if machines.num_gpus else "cpu",
            threads=max(1, int(machines.cpus_per_trial)),
        )
        with SearchScreen(space, queue, console, slots=machines.slots) as screen:
            logging.disable(logging.WARNING)
            try:
                tune.run(
                    trainable,
                    name="search",
                    storage_path=str(scratch / "tune"),
                    resources_per_trial={"cpu": machines.cpus_per_trial, "gpu": machines.gpus_per_trial},
                    num_samples=-1,
                    search_alg=queue,
                    scheduler=scheduler,
                    max_concurrent_trials=machines.slots,
                    callbacks=[screen],
                    verbose=0,
                    reuse_actors=True,
                    raise_on_failed_trial=False,
                )
            finally:
                logging.disable(logging.NOTSET)


def _write_run(prepared: Prepared) -> None:
    record = RunRecord(
        name=prepared.space.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=prepared.options.command,
        space=prepared.space.model_dump(mode="json"),
        seed=prepared.space.seed,
        data=[_describe(size, data) for size, data in prepared.datasets.items()],
        versions=package_versions() | {name: version(name) for name in ("ray", "optuna")},
        host=socket.gethostname(),
    )
    write_run(prepared.run, record)


def _describe(size: int, data: DataSet) -> dict[str, object]:
    splits = {name: len(getattr(data, name)) for name in ("train", "validation", "test")}
    unreadable = [f"{item.name}: {item.reason}" for item in data.unreadable]
    return {
        "name": data.name,
        "image_size": size,
        "fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "images": splits,
        "unreadable": unreadable,
    }


def _close_running(run: Path, queue: JobQueue) -> int:
    """Records what was running as interrupted, and counts it. Ray is down: nobody else writes these records now."""
    closed = 0
    for job in queue.running:
        try:
            record = read_trial(job.folder(run)).record
        except ResultsError:
            # Killed before its first word: there is nothing to close.
            continue
        if record.status == "running":
            write_trial(job.folder(run), replace(record, status="interrupted", reason="the search was stopped"))
            closed += 1
    return closed
