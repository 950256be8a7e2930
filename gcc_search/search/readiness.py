"""Whether a search can start: machines, folder, database, images, weights, metrics; seen before anything is written."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from gcc_search.atomic import place_of
from gcc_search.complaints import explain_record
from gcc_search.errors import ResultsError, SpaceError, WeightsError
from gcc_search.homes import expanded
from gcc_search.patience import check_limit
from gcc_search.plugins import versions_of
from gcc_search.preparation import DataSet, check_network, is_published, prepare_images
from gcc_search.results.reader import Run
from gcc_search.saying import say
from gcc_search.search.cluster import is_shared, plan
from gcc_search.search.going_on import resume_command
from gcc_search.search.inspection import Wanted, inspect_cluster
from gcc_search.search.jobs import image_sizes
from gcc_search.search.lock import LOCK
from gcc_search.search.machines import Machines
from gcc_search.search.notes import notes
from gcc_search.search.packing import Packing
from gcc_search.search.study import study_name
from gcc_search.search.study_copy import check_storage
from gcc_search.settings import NetworkName
from gcc_search.space import MOST_TRIALS, SearchSpace
from gcc_search.storage.mirror import names_in


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What the command line adds to a space file.

    Args:
        storage: SQLAlchemy URL of the study; None: study.db in the run.
        data_root: where the images are now; None: where they were when the search began.
        run_cap, max_hours: of a search that goes on, trials in all and hours from now; None: as before.
        address: of the Ray cluster that this process has joined; None: none.
    """

    out: Path
    gpus: int | None = None
    storage: str | None = None
    data_root: Path | None = None
    run_cap: int | None = None
    max_hours: float | None = None
    command: str = ""
    address: str | None = None

    def resume_command(self, run: Path) -> str:
        """What goes on with a search in `run`, in a shell."""
        return resume_command(place_of(run), gpus=self.gpus, storage=self.storage, address=self.address)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A search that can start: everything that could be wrong with it has been looked at, nothing has been written.

    Args:
        packing: how many trials share a GPU, once that is measured; None where nothing asks for it.
    """

    space: SearchSpace
    options: SearchOptions
    machines: Machines
    datasets: dict[int, DataSet] = field(repr=False)
    packing: Packing | None = None

    @property
    def run(self) -> Path:
        return self.options.out / self.space.name

    @property
    def resume_command(self) -> str:
        """What goes on with this search, in a shell."""
        return self.options.resume_command(self.run)


def prepare_search(space: SearchSpace, options: SearchOptions, console: Console) -> Prepared:
    """Looks at machines, folder, database, images, weights. Decodes the images into their cache; writes nothing else.

    Raises:
        ResourceError, ResultsError, DataError, WeightsError, SpaceError: the first thing that is wrong.
    """
    space = _with_absolute_paths(space)
    run = options.out / space.name
    there = names_in(run)
    if "run.json" in there:
        raise ResultsError(
            f"{run}: must be a new name, got one that exists; choose another with --name, or go on with it: "
            f"{options.resume_command(run)}"
        )
    if _is_taken(run, there):
        raise ResultsError(f"{run}: must be a new name, got a folder that exists; choose another with --name")
    _check_writable(options.out)
    if options.storage is not None:
        check_storage(options.storage, new=[study_name(space, network) for network in space.networks])
    return _look_at(space, options, console, is_new=True)


def _is_taken(run: Path, there: frozenset[str]) -> bool:
    """Whether more lies there than a search leaves that was killed before it had written its run.json.

    What was removed in part, or came late from a worker that was cut off, would be gone on with as if it were ours.
    """
    is_file = run.exists() and not run.is_dir()
    return is_file or not all(name.startswith((LOCK, ".run.json.")) for name in there)


def reopen_search(run: Run, options: SearchOptions, console: Console) -> Prepared:
    """The search that `run` was, with the space frozen in its run.json.

    Raises:
        ResultsError: its run.json holds no search, or its images are other ones now.
        SpaceError: it cannot have so many trials.
    """
    if "single" in run.record.space:
        raise ResultsError(f"{run.folder}: must be a search, got one network of gcc-search train; train it again")
    try:
        space = SearchSpace.model_validate(run.record.space)
    except ValidationError as error:
        raise ResultsError(f"{run.folder}/run.json: space: {explain_record(error, SearchSpace)}") from None
    if options.run_cap is not None:
        space = _extended(space, options.run_cap)
    if options.max_hours is not None:
        if not 0 < options.max_hours < math.inf:
            raise SpaceError(f"--max-hours: must be above 0, got {options.max_hours:g}")
        space = space.model_copy(update={"max_hours": options.max_hours})
    # The folder may have been renamed since, and may be named as `.`, which has no name of its own; the images moved.
    moved = options.data_root
    root = space.data.root if moved is None else expanded(moved, where="--data-root").resolve()
    changes = {"name": run.folder.resolve().name, "data": space.data.model_copy(update={"root": root})}
    if options.storage is not None:
        check_storage(options.storage)
    prepared = _look_at(space.model_copy(update=changes), options, console, is_new=False)
    for described in run.record.data:
        found = prepared.datasets[described["image_size"]].fingerprint
        if found != described["fingerprint"]:
            raise ResultsError(
                f"{run.folder}: images must be those it began with, got others in {space.data.name}; "
                "put them back, or start anew"
            )
    for package, now in versions_of(space.networks).items():
        before = run.record.versions.get(package, "none")
        if before != now:
            say(console, f"note: {package} is {now}, and was {before}: networks from now on may be others than before")
    return prepared


def _extended(space: SearchSpace, run_cap: int) -> SearchSpace:
    """With so many trials in all: those that there are stay, and the sampler goes on from them."""
    if space.run_cap is None or space.method not in ("bayes", "random"):
        raise SpaceError(
            f"--run-cap: must go with method bayes or random, got a search of method {space.method}, which lists its "
            "trials; start a new run"
        )
    if run_cap < space.run_cap:
        raise SpaceError(f"--run-cap: must be at least the {space.run_cap} that the search has, got {run_cap}")
    if run_cap > MOST_TRIALS:
        raise SpaceError(f"--run-cap: must be at most {MOST_TRIALS}, got {run_cap}")
    return space.model_copy(update={"run_cap": run_cap})


def _look_at(space: SearchSpace, options: SearchOptions, console: Console, *, is_new: bool) -> Prepared:
    """What was begun is not refused for what cannot be changed any more, and does no harm."""
    check_limit()
    machines = plan(space.resources, gpus=options.gpus)
    datasets = {size: prepare_images(space.data, size, console) for size in image_sizes(space)}
    first_weights = {network: _first_weights(space, network) for network in space.networks}
    for size, data in datasets.items():
        _check_metrics(space, data, is_new=is_new)
        for network, weights in first_weights.items():
            settings = space.settings(network, {"image_size": size}).model_copy(update={"weights": weights})
            check_network(settings, data, is_new=is_new, num_processes=max(1, int(machines.gpus_per_trial)))
    if is_shared():
        wanted = Wanted(
            networks=space.networks,
            data=space.data,
            fingerprints={size: data.fingerprint for size, data in datasets.items()},
            weights=tuple(Path(weights) for weights in first_weights.values() if Path(weights).is_file()),
            published={name: weights for name, weights in first_weights.items() if is_published(weights)},
            place=place_of(options.out.resolve()),
        )
        inspect_cluster(wanted, console)
    for line in notes(space):
        say(console, line)
    return Prepared(space=space, options=options, machines=machines, datasets=datasets)


def _first_weights(space: SearchSpace, network: NetworkName) -> str:
    """What the first network of a kind is made from: the start network, where trials begin from one."""
    weights = space.settings(network, {}).weights
    return space.start_weights if weights == "baseline" else weights


def _with_absolute_paths(space: SearchSpace) -> SearchSpace:
    """Workers run in folders of their own, where a relative path means something else."""
    changes: dict[str, object] = {"start_weights": _absolute(space.start_weights)}
    if space.data.root is not None:
        changes["data"] = space.data.model_copy(update={"root": expanded(space.data.root, where="data.root").resolve()})
    changes["weights"] = (
        _absolute(space.weights)
        if isinstance(space.weights, str)
        else {network: _absolute(weights) for network, weights in space.weights.items()}
    )
    return space.model_copy(update=changes)


def _absolute(weights: str) -> str:
    path = expanded(weights, where="weights", kind=WeightsError)
    return str(path.resolve()) if path.is_file() else weights


def _check_writable(out: Path) -> None:
    parent = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ResultsError(
            f"{out}: must be a folder that can be written to, got one that cannot; choose another with --out"
        )


def _check_metrics(space: SearchSpace, data: DataSet, *, is_new: bool) -> None:
    asked = [("metrics", metric.name) for metric in space.metrics]
    asked += [("constraints", constraint.metric.name) for constraint in space.parsed_constraints()]
    if is_new and space.early_terminate is not None and space.early_terminate.metric is not None:
        asked.append(("early_terminate.metric", space.early_terminate.metric))
    for where, name in asked:
        if name in ("box_mass", "pointing") and not data.validation.has_regions:
            raise SpaceError(
                f"{where}: {name} must have boxes or masks to score, got none in {data.name}; leave it out"
            )
