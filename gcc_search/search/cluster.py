"""Ray itself: started quietly for one search and shut down after it; what there is against what was asked for."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import worker as ray_worker

from gcc_search.errors import ResourceError
from gcc_search.search.machines import Machines, Node, plan_machines
from gcc_search.search.ray_signals import ray_leaves_signals
from gcc_search.search.stopping import ends_when_lost
from gcc_search.storage.scratch import scratch_folder
from gcc_search.vocabulary import Resources

_AS_IT_IS = contextlib.nullcontext()


def plan(resources: Resources, *, gpus: int | None) -> Machines:
    """How many trials run at once: in the Ray that this process has joined, or else on this machine.

    Raises:
        ResourceError: more GPUs than there are, or a trial that fits nowhere.
    """
    return plan_machines(resources, gpus=gpus, nodes=joined_nodes(), may_grow=is_shared())


def joined_nodes() -> list[Node]:
    """The machines of the Ray that this process has joined; none where it has not."""
    if not ray.is_initialized():
        return []
    return [
        Node(
            host=node["NodeManagerAddress"],
            num_cpus=node["Resources"].get("CPU", 0.0),
            num_gpus=node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


def is_shared() -> bool:
    """Whether this process has joined a cluster that is not its own, which others may join as well."""
    return bool(ray.is_initialized() and ray_worker._global_node is not None and not ray_worker._global_node.is_head())


@contextlib.contextmanager
def local_ray(
    machines: Machines,
    last_words: str = "start again",
    *,
    starting: contextlib.AbstractContextManager[object] = _AS_IT_IS,
) -> Iterator[Path]:
    """Ray on this machine for the duration, saying nothing. Yields a scratch folder that is removed afterwards.

    Where this process has joined a Ray already, the search runs in that one and leaves it as it is. What leaves the
    body early leaves a cluster of others as well: only that ends our workers there.
    Where a part of our own is killed, which no search survives, the process ends with a line that ends with
    `last_words`.

    Args:
        starting: entered while our own is started. Ray broken off at that may end the process by a segmentation fault,
            and leaves processes behind.

    Raises:
        ResourceError: Ray did not start, as on a machine that is far too busy.
    """
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Of each worker that dies Ray prints a paragraph on stdout, whatever `log_to_driver` says; ours is a line.
    ray_worker._worker_logs_enabled = False
    with scratch_folder() as scratch:
        ours = contextlib.nullcontext() if ray.is_initialized() else _own_ray(machines, scratch, last_words, starting)
        try:
            with ours:
                yield scratch
        except BaseException:
            if is_shared():
                ray.shutdown()
            raise


@contextlib.contextmanager
def _own_ray(
    machines: Machines, scratch: Path, last_words: str, starting: contextlib.AbstractContextManager[object]
) -> Iterator[None]:
    before = set(psutil.Process().children())
    try:
        with starting, warnings.catch_warnings(), _deaf_to_hangups(), ray_leaves_signals():
            warnings.simplefilter("ignore")
            _start_ray(machines, scratch)
        told = "gcc-search: Ray: must stay up during a search, got its {} killed; " + last_words
        with ends_when_lost(_find_lost, told):
            yield
    finally:
        ray.shutdown()
        _end_leftovers(before)


@contextlib.contextmanager
def _deaf_to_hangups() -> Iterator[None]:
    """Processes that are started within never hear that the terminal was closed; this one does, if later.

    The kernel tells all of them, and an orderly end needs Ray.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _find_lost() -> str | None:
    """The part of our own Ray that has died; None while all is well."""
    node: Any = ray_worker._global_node
    parts = node.all_processes
    found = ((name, part.process) for name in ("raylet", "gcs_server") for part in parts.get(name, ()))
    return next((name for name, process in found if process.poll() is not None), None)


def _start_ray(machines: Machines, scratch: Path) -> None:
    try:
        ray.init(
            # Not the one that RAY_ADDRESS names, or that runs on this machine: those are for --address.
            address="local",
            num_cpus=int(machines.num_cpus),
            num_gpus=machines.num_gpus,
            include_dashboard=False,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
            configure_logging=True,
            _temp_dir=str(scratch / "ray"),
            object_store_memory=256 << 20,
        )
    except Exception as error:
        # Ray raises bare Exceptions; what went wrong stands in the first line.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResourceError(f"Ray: must start on this machine, got: {reason} Try again when it is less busy") from error


def _end_leftovers(before: set[psutil.Process]) -> None:
    """Ends what Ray has started and does not know of: it forgets its processes where its own start is interrupted."""
    leftovers = [child for child in psutil.Process().children() if child not in before]
    for child in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(leftovers, timeout=5)
