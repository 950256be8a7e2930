"""Launch checks: whether the machines of a cluster have the same package, images, weights, results place and time.

Each machine looks at itself, in a task that Ray pins to it, before any trial is started.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gcc_search.atomic import fetch, remove_file, sha256_of_file, write_atomically
from gcc_search.errors import ClusterError, ResultsError
from gcc_search.identity import package_versions
from gcc_search.preparation import weights_file
from gcc_search.search.asking import answer_of, or_reason
from gcc_search.settings import DataSettings, NetworkName
from gcc_search.storage.mirror import local_folder
from gcc_search.trial import open_dataset

Answer = TypeVar("Answer")
# A machine that joins starts a Python of its own, and imports torch from what may be a slow shared disk.
ANSWER_SECONDS = 300.0
CLOCK_SECONDS = 60.0
# A package that is not there cannot say so: Ray says it.
_NO_PACKAGE = f"must have the same gcc-search as {socket.gethostname()}, got: {{}}; install it there"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What every machine must have as this one has it: packages, images by size with their fingerprints, weights.

    Args:
        networks: of the search, some of which another package may bring.
        published: weights by a torchvision name, by network: fetched to each machine, where they are not there yet.
        place: where results go, a folder or a bucket's URL.
    """

    networks: tuple[NetworkName, ...]
    data: DataSettings
    fingerprints: dict[int, str]
    weights: tuple[Path, ...]
    published: dict[NetworkName, str]
    place: str


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A file of a random name and content in the results place: who sees it looks at the same place."""

    name: str
    content: bytes

    def of(self, node_id: str) -> str:
        return f"{self.name}.{node_id}"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one machine saw: versions, digests of the weights (None: not there), the probe, its clock."""

    versions: dict[str, str]
    weights: dict[str, str | None]
    sees_probe: bool
    not_written: str | None
    clock: float


def inspect_cluster(wanted: Wanted, console: Console) -> None:
    """Nothing, where every machine of the joined cluster is fit for the search.

    Raises:
        ClusterError: a line for each thing that is wrong, all at once.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
    problems = [f"{nodes[key]}: {problem}" for key, problem in _look_around(wanted, list(nodes), console)]
    if not problems:
        # Weights are fetched and images decoded where they have not been, which takes its time: only on fit machines.
        problems = [f"{nodes[key]}: {problem}" for key, problem in _prepare(wanted, list(nodes), console)]
    if problems:
        raise ClusterError("\n".join(sorted(problems)))


def _look_around(wanted: Wanted, nodes: Sequence[str], console: Console) -> Iterator[tuple[str, str]]:
    probe = Probe(name=f".gcc-search-{uuid.uuid4().hex}.tmp", content=uuid.uuid4().hex.encode())
    with local_folder(wanted.place) as folder:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        write_atomically(folder / probe.name, probe.content)
        began = time.time()
        ours = _look(wanted, probe, "here")
        try:
            asked = {key: (wanted, probe, key) for key in nodes}
            for key, answer in _ask_all(_look, asked, "looking at machines", console, seconds=ANSWER_SECONDS):
                problems = [answer] if isinstance(answer, str) else _compare(answer, ours, wanted, began)
                yield from ((key, problem) for problem in problems)
                wrote = isinstance(answer, Look) and answer.sees_probe and answer.not_written is None
                if wrote and not _is_there(folder / probe.of(key), probe):
                    yield key, _not_shared(wanted.place)
        finally:
            for name in (probe.name, *(probe.of(key) for key in ("here", *nodes))):
                remove_file(folder / name)
            for place in missing:
                place.rmdir()


def _look(wanted: Wanted, probe: Probe, key: str) -> Look:
    not_written = None
    with local_folder(wanted.place) as folder:
        sees_probe = _is_there(folder / probe.name, probe)
        try:
            if sees_probe:
                write_atomically(folder / probe.of(key), probe.content)
        except ResultsError as error:
            not_written = str(error)
    versions = package_versions(wanted.networks)
    return Look(
        versions=versions | {"python": ".".join(versions["python"].split(".")[:2])},
        weights={str(path): _digest(path) for path in wanted.weights},
        sees_probe=sees_probe,
        not_written=not_written,
        clock=time.time(),
    )


def _is_there(path: Path, probe: Probe) -> bool:
    fetch([path])
    try:
        return path.read_bytes() == probe.content
    except OSError:
        return False


def _compare(theirs: Look, ours: Look, wanted: Wanted, began: float) -> Iterator[str]:
    for name, version in ours.versions.items():
        if theirs.versions.get(name) != version:
            got = theirs.versions.get(name, "none")
            yield f"{name} must be {version}, as on {socket.gethostname()}, got {got}; install the same everywhere"
    for path, digest in ours.weights.items():
        if theirs.weights[path] != digest:
            got = "no such file" if theirs.weights[path] is None else "other bytes"
            yield f"{path}: weights must be as on {socket.gethostname()}, got {got}; copy the file there"
    if not theirs.sees_probe:
        yield _not_shared(wanted.place)
    elif theirs.not_written:
        yield theirs.not_written
    # It looked at its clock between our question and now.
    late, early = began - theirs.clock, theirs.clock - time.time()
    if max(late, early) > CLOCK_SECONDS:
        off = f"{late:.0f} s behind" if late > early else f"{early:.0f} s ahead"
        yield f"clock must be within {CLOCK_SECONDS:.0f} s of that of {socket.gethostname()}, got {off}; set it"


def _not_shared(place: str) -> str:
    return (
        f"{place}: must be the same folder on every machine, got one of its own there; "
        "name a shared disk or a bucket with --out"
    )


def _prepare(wanted: Wanted, nodes: Sequence[str], console: Console) -> Iterator[tuple[str, str]]:
    asked = dict.fromkeys(nodes, (wanted,))
    for key, answer in _ask_all(_prepare_here, asked, f"preparing {wanted.data.name}", console, seconds=None):
        if isinstance(answer, str):
            yield key, answer
        elif answer != wanted.fingerprints:
            yield (
                key,
                f"images of {wanted.data.name} must be those of {socket.gethostname()}, got others; copy them there",
            )


def _prepare_here(wanted: Wanted) -> dict[int, str]:
    """This machine's fingerprints of the images, by size, once its published weights are there as well."""
    for network, weights in wanted.published.items():
        weights_file(network, weights)
    return {size: open_dataset(wanted.data, size).fingerprint for size in wanted.fingerprints}


def _digest(path: Path) -> str | None:
    try:
        return sha256_of_file(path)
    except OSError:
        return None


def _ask_all(
    question: Callable[..., Answer],
    asked: dict[str, tuple[Any, ...]],
    told: str,
    console: Console,
    *,
    seconds: float | None,
) -> Iterator[tuple[str, Answer | str]]:
    """Each machine's answer as it comes, or a line on why there is none."""
    remote = ray.remote(num_cpus=0, max_retries=0)(or_reason)
    pending = {
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(key, soft=False)).remote(
            question, *given
        ): key
        for key, given in asked.items()
    }
    until = None if seconds is None else time.monotonic() + seconds
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(told, total=len(pending))
        while pending:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready, _ = ray.wait(list(pending), timeout=left)
            if not ready:
                break
            yield pending.pop(ready[0]), answer_of(ready[0], _NO_PACKAGE)
            bar.advance(task)
    # They end with this driver: to cancel one that is just answering aborts it (Ray 2.60, tried).
    for key in pending.values():
        yield key, f"must answer within {seconds:.0f} s, got nothing; is it very busy, or its disk slow?"
