"""One search from a space file to finished trials."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from gcc_search.errors import ResultsError, SpaceError
from gcc_search.preparation import DataSet, check_weights, prepare_images, say
from gcc_search.recording import package_versions
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import RunRecord
from gcc_search.results.writer import write_run, write_trial
from gcc_search.search.cluster import Machines, local_ray, plan_machines
from gcc_search.search.job_queue import JobQueue, Outcome
from gcc_search.search.jobs import JobMaker, image_sizes
from gcc_search.search.study import NetworkStudy, open_storage, trials_per_network
from gcc_search.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What the command line adds to a space file. `storage`: SQLAlchemy URL of the study; None: study.db in the run."""

    out: Path
    gpus: int | None = None
    storage: str | None = None
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A search that can start: everything that could be wrong with it has been looked at, nothing has been written."""

    space: SearchSpace
    options: SearchOptions
    machines: Machines
    datasets: dict[int, DataSet] = field(repr=False)

    @property
    def run(self) -> Path:
        return self.options.out / self.space.name


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


def prepare_search(space: SearchSpace, options: SearchOptions, console: Console) -> Prepared:
    """Looks at machines, folder, images and weights. Decodes the images into their cache, and writes nothing else.

    Raises:
        ResourceError, ResultsError, DataError, WeightsError, SpaceError: the first thing that is wrong.
    """
    space = _with_absolute_paths(space)
    run = options.out / space.name
    if run.exists():
        raise ResultsError(f"{run}: must be a new name, got one that exists; choose another with --name, or remove it")
    _check_writable(options.out)
    machines = plan_machines(space.resources, gpus=options.gpus)
    datasets = {size: prepare_images(space.data, size, console) for size in image_sizes(space)}
    for data in datasets.values():
        _check_metrics(space, data)
        for network in space.networks:
            check_weights(space.settings(network, {}), data)
    if space.explanation.sparsity == "paper" and any(0 in values for values in _values_of(space, "p")):
        say(console, "note: p = 0 in the paper's form counts pixels and has no gradient: beta does nothing there")
    return Prepared(space=space, options=options, machines=machines, datasets=datasets)


def _with_absolute_paths(space: SearchSpace) -> SearchSpace:
    """Workers run in folders of their own, where a relative path means something else."""
    changes: dict[str, object] = {}
    if space.data.root is not None:
        changes["data"] = space.data.model_copy(update={"root": space.data.root.resolve()})
    changes["weights"] = (
        _absolute(space.weights)
        if isinstance(space.weights, str)
        else {network: _absolute(weights) for network, weights in space.weights.items()}
    )
    return space.model_copy(update=changes)


def _absolute(weights: str) -> str:
    return str(Path(weights).resolve()) if Path(weights).is_file() else weights


def _values_of(space: SearchSpace, name: str) -> list[tuple[object, ...]]:
    """Every list of values that `name` is drawn from in this space."""
    parameter = space.parameters.get(name)
    fixed = (getattr(space.explanation, name),) if parameter is None else parameter.choices or ()
    return [fixed, *((point[name],) for point in space.points if name in point)]


def run_search(prepared: Prepared, console: Console) -> SearchResult:
    """Trains baselines and trials; every one of them leaves its directory.

    Ctrl-C ends it within seconds: what was running is recorded as interrupted.
    """
    run = prepared.run
    _write_run(prepared)
    queue = _make_queue(prepared)
    interrupted = False
    try:
        _tune(prepared, queue, console)
    except KeyboardInterrupt:
        interrupted = True
    num_interrupted = _close_running(run, queue)
    return SearchResult(
        run=run, outcomes=tuple(queue.outcomes), num_interrupted=num_interrupted, interrupted=interrupted
    )


def _tune(prepared: Prepared, queue: JobQueue, console: Console) -> None:
    with local_ray(prepared.machines) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Imported here: Ray reads its environment when it is imported, and `local_ray` has just set it.
        from ray import tune

        from gcc_search.search.progress import SearchScreen
        from gcc_search.search.scheduler import SuccessiveHalving
        from gcc_search.search.trainable import train_job

        space, machines = prepared.space, prepared.machines
        early, epochs = space.early_terminate, space.recipe.epochs
        trainable = tune.with_parameters(
            train_job, run=str(prepared.run.resolve()), threads=max(1, int(machines.cpus_per_trial))
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
                    scheduler=SuccessiveHalving(early, epochs=epochs) if early else None,
                    max_concurrent_trials=machines.slots,
                    callbacks=[screen],
                    verbose=0,
                    reuse_actors=True,
                    raise_on_failed_trial=False,
                )
            finally:
                logging.disable(logging.NOTSET)


def _make_queue(prepared: Prepared) -> JobQueue:
    space, run = prepared.space, prepared.run
    storage = open_storage(prepared.options.storage or f"sqlite:///{run / 'study.db'}")
    studies = {
        network: NetworkStudy(space, network, storage, cap=cap) for network, cap in trials_per_network(space).items()
    }
    maker = JobMaker(space=space, fingerprints={size: data.fingerprint for size, data in prepared.datasets.items()})
    return JobQueue(space, run, maker, studies)


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


def _check_writable(out: Path) -> None:
    parent = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ResultsError(
            f"{out}: must be a folder that can be written to, got one that cannot; choose another with --out"
        )


def _check_metrics(space: SearchSpace, data: DataSet) -> None:
    asked = {metric.name for metric in space.metrics} | {item.metric.name for item in space.parsed_constraints()}
    on_objects = sorted(asked & {"box_mass", "pointing"})
    if on_objects and not data.validation.has_regions:
        raise SpaceError(
            f"metrics: {on_objects[0]} must have boxes or masks to score, got none in {data.name}; leave it out"
        )
