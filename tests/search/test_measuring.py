"""`trials_per_gpu: auto`, through Ray and without it, on a GPU that stands in for one: trials run on the CPU."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from rich.console import Console

from gcc_search.errors import ClusterError, ResourceError
from gcc_search.results.reader import read_run, read_run_record
from gcc_search.results.writer import write_run
from gcc_search.search.cluster import local_ray
from gcc_search.search.launch import run_search
from gcc_search.search.machines import Machines
from gcc_search.search.measuring import pack_trials
from gcc_search.search.plan import print_plan
from gcc_search.search.readiness import Prepared, SearchOptions, prepare_search, reopen_search
from gcc_search.search.trainable import train_job
from tests.search.conftest import make_space
from tests.standin_gpu import GIB, StandInGpu

AUTO = {"trials_per_gpu": "auto"}
TOLD = "convnet_small at 32 px, batch 32: 3.5 GiB a trial; 4 trials on each GPU of 24 GiB, as many as cpus_per_trial"


@pytest.fixture(scope="module")
def ray_with_a_gpu():
    """Four CPUs, and one GPU as far as Ray knows."""
    with local_ray(Machines(num_gpus=1, num_cpus=4, slots=4, gpus_per_trial=1, cpus_per_trial=1)):
        yield


def make_gpu(folder: Path, **changes) -> StandInGpu:
    folder.mkdir(exist_ok=True)
    return StandInGpu(folder=folder, **changes)


def prepare(out: Path, *, gpus: int | None = None, **changes) -> Prepared:
    space = make_space(resources=AUTO, **changes)
    return prepare_search(space, SearchOptions(out=out, gpus=gpus), Console(file=io.StringIO()))


def train_on_the_cpu(config, *, run, device, **surroundings) -> None:
    """What it was given goes into a file."""
    assert device == "cuda"
    share = ray.get_runtime_context().get_assigned_resources()["GPU"]
    with (Path(run) / "shares.txt").open("a") as file:
        file.write(f"{share}\n")
    train_job(config, run=run, device="cpu", **surroundings)


def test_a_search_measures_packs_and_does_not_measure_again(ray_with_a_gpu, tmp_path):
    gpu, console = make_gpu(tmp_path / "gpu"), Console(file=io.StringIO(), width=200)
    prepared = prepare(tmp_path / "runs", run_cap=1)
    result = run_search(prepared, console, job=train_on_the_cpu, meter=gpu)
    assert result.exit_code == 0
    assert gpu.num_trained == 1
    assert TOLD in console.file.getvalue()
    record = read_run_record(result.run)
    assert (record.packing["trials_per_gpu"], record.packing["num_in_memory"]) == (4, 6)
    assert set((result.run / "shares.txt").read_text().split()) == {"0.25"}

    # As if it had been stopped before its second trial.
    write_run(result.run, replace(record, space=record.space | {"run_cap": 2}))
    again = reopen_search(read_run(result.run), prepared.options, console)
    assert len(run_search(again, console, job=train_on_the_cpu, meter=gpu).outcomes) > len(result.outcomes) - 2
    assert gpu.num_trained == 1
    assert set((result.run / "shares.txt").read_text().split()) == {"0.25"}
    assert console.file.getvalue().count(TOLD) == 2


def test_other_gpus_are_measured_again(ray_with_a_gpu, tmp_path):
    prepared, nowhere = prepare(tmp_path / "runs"), Console(file=io.StringIO())
    gpu = make_gpu(tmp_path / "first")
    known = pack_trials(prepared, nowhere, meter=gpu).packing.to_dict()
    same = pack_trials(prepared, nowhere, known=known, meter=gpu)
    assert (same.packing.to_dict(), gpu.num_trained) == (known, 1)
    assert (same.machines.slots, same.machines.gpus_per_trial) == (4, 0.25)
    smaller = make_gpu(tmp_path / "second", total=8 * GIB)
    packed = pack_trials(prepared, nowhere, known=known, meter=smaller)
    assert (packed.packing.trials_per_gpu, smaller.num_trained) == (1, 1)


def test_a_gpu_that_does_not_hold_one_trial_is_told_by_its_machine_and_nothing_is_begun(ray_with_a_gpu, tmp_path):
    gpu = make_gpu(tmp_path / "gpu", total=3 * GIB)
    prepared = prepare(tmp_path / "runs")
    with pytest.raises(ResourceError, match="one trial must fit on Stand-in, got convnet_small at 32 px, batch 32"):
        run_search(prepared, Console(file=io.StringIO()), meter=gpu)
    assert not (prepared.run / "run.json").exists()
    # The same name may be tried again.
    prepare(tmp_path / "runs")


def test_a_gpu_that_torch_cannot_use_is_told_by_its_machine(ray_with_a_gpu, tmp_path):
    with pytest.raises(ClusterError) as error:
        pack_trials(prepare(tmp_path / "runs"), Console(file=io.StringIO()))
    (address,) = (node["NodeManagerAddress"] for node in ray.nodes())
    told = "GPU: must be one that torch can use, got none; nvidia-smi shows what the driver knows of"
    assert str(error.value) == f"{address}: {told}"


def test_the_plan_says_that_it_is_measured_at_start(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    print_plan(prepare(tmp_path, gpus=0), console)
    told = "packing   trials_per_gpu is measured at start; without GPUs cpus_per_trial alone decides"
    assert told in console.file.getvalue()
