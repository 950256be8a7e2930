"""A small real search, run once: real Ray, real SQLite, real files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gcc_search.cores import usable_cores
from gcc_search.results.reader import Run
from gcc_search.search.launch import SearchResult, run_search
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.space import SearchSpace

TINY: dict[str, Any] = {
    "name": "tiny",
    "networks": ["convnet_small"],
    "weights": "baseline",
    "start": {"epochs": 2, "lr": 0.05},
    "data": {"name": "shapes", "num_images": 120},
    "recipe": {"epochs": 2, "lr": 0.01, "image_size": 32},
    "evaluation": {"insertion_images": 2},
    "parameters": {
        "alpha": {"distribution": "log_uniform_values", "min": 0.01, "max": 10},
        "beta": {"distribution": "log_uniform_values", "min": 0.01, "max": 1},
    },
    "metrics": [{"name": "corrected_consistency"}, {"name": "gini"}],
    "constraints": ["accuracy >= baseline - 60"],
    "run_cap": 3,
}


# One trial at a time, on more than half of the cores: what is sampled then depends on nothing but what came before.
# And one thread for it where there are two cores: several spin while the other worker of these tests is at work.
ONE_AT_A_TIME: dict[str, Any] = {"resources": {"cpus_per_trial": usable_cores() / 2 + 0.5}}


@pytest.fixture(scope="module")
def cluster():
    """A head that trains nothing and two machines that do, each a raylet of its own; this process joins them.

    One for a file: three raylets take longer to start than most of what is tried on them. A machine that refuses five
    times in a row is lost, as everywhere, but it is asked twice a second.
    """
    # Not before gcc_search.search, which says how Ray is to be started.
    import ray
    from ray.cluster_utils import Cluster

    head = {
        "num_cpus": 0,
        "object_store_memory": 100 << 20,
        # Any port, not 8265 alone: where another test's Ray has that, Ray gives up and leaves a socket open.
        "dashboard_port": None,
        "_system_config": {"health_check_period_ms": 500},
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=usable_cores(), object_store_memory=100 << 20)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="critical")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def make_space(**changes: Any) -> SearchSpace:
    return SearchSpace.model_validate(TINY | changes)


def run_space(space: SearchSpace, out: Path) -> tuple[SearchResult, str]:
    """The search's result and all that it printed."""
    console = Console(file=io.StringIO(), width=120)
    prepared = prepare_search(space, SearchOptions(out=out, gpus=0, command="gcc-search --space tiny.yaml"), console)
    result = run_search(prepared, console)
    return result, console.file.getvalue()  # type: ignore[attr-defined]


def results_of(run: Run) -> list[tuple[object, ...]]:
    """What must depend neither on interruptions nor on where results go: settings, rows, networks."""
    timing = ("train_seconds", "evaluation_seconds", "peak_memory_bytes")
    return [
        (
            trial.record.id,
            trial.record.status,
            trial.record.sampled,
            trial.epochs().drop_columns(timing).to_pylist(),
            trial.images().to_pylist(),
            (trial.folder / "network.safetensors").read_bytes(),
        )
        for trial in run.trials
    ]
