"""`trials_per_gpu: auto`, through Ray and without it, on a GPU that stands in for one: trials run on the CPU."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import ray
import torch
from rich.console import Console

from gcc_search.errors import ClusterError, ResourceError
from gcc_search.footprint import Gpu
from gcc_search.results.reader import read_run, read_run_record
from gcc_search.results.writer import write_run
from gcc_search.search.cluster import local_ray
from gcc_search.search.launch import run_search
from gcc_search.search.machines import Machines
from gcc_search.search.measuring import _HEAVIEST_FIRST, heaviest_trials, pack_trials
from gcc_search.search.packing import pack
from gcc_search.search.plan import make_plan, print_plan
from gcc_search.search.readiness import Prepared, SearchOptions, prepare_search, reopen_search
from gcc_search.search.trainable import train_job
from gcc_search.settings import Explanation
from gcc_search.vocabulary import Resources
from tests.search.conftest import make_space
from tests.search.test_packing import make_reading
from tests.standin_gpu import GIB, StandInGpu

# A baseline and trials, and no network that they start from.
SHORT = {
    "weights": "none",
    "start": None,
    "resources": {"trials_per_gpu": "auto"},
    "data": {"name": "shapes", "num_images": 80},
    "recipe": {"epochs": 1, "lr": 0.01, "image_size": 32},
    "evaluation": {"insertion_images": 2, "batch_size": 16},
}
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
    return prepare_search(make_space(**SHORT | changes), SearchOptions(out=out, gpus=gpus), Console(file=io.StringIO()))


def train_on_the_cpu(config, *, run, device, **surroundings) -> None:
    """What it was given goes into a file."""
    assert device == "cuda"
    share = ray.get_runtime_context().get_assigned_resources()["GPU"]
    with (Path(run) / "shares.txt").open("a") as file:
        file.write(f"{share}\n")
    train_job(config, run=run, device="cpu", **surroundings)


# Before the first test that starts Ray.
def test_without_ray_the_gpus_of_this_machine_are_measured(tmp_path):
    prepared = prepare(tmp_path / "runs")
    there = replace(prepared, machines=replace(prepared.machines, num_gpus=1))
    gpu, console = make_gpu(tmp_path / "gpu"), Console(file=io.StringIO(), width=200)
    packed = pack_trials(there, console, meter=gpu)
    assert (packed.packing.trials_per_gpu, gpu.num_trained) == (6, 1)
    assert "measures how many trials fit on each kind of GPU" in console.file.getvalue()


class TwoKinds(StandInGpu):
    """A machine with two GPUs, of two kinds."""

    def gpus(self) -> list[Gpu]:
        return [Gpu(name=name, total_bytes=self.total) for name in ("small", "large")]

    def device(self, index: int) -> torch.device:
        return torch.device("cpu")


def test_of_two_kinds_of_gpu_each_is_measured_that_the_search_may_use(tmp_path, monkeypatch):
    monkeypatch.setattr("gcc_search.search.machines._count_gpus", lambda: 2)
    (tmp_path / "gpu").mkdir()
    meter, console = TwoKinds(folder=tmp_path / "gpu"), Console(file=io.StringIO())
    both = pack_trials(prepare(tmp_path / "runs"), console, meter=meter)
    assert [reading.gpu.name for reading in both.packing.readings] == ["small", "large"]
    known, first = both.packing.to_dict(), prepare(tmp_path / "first", gpus=1)
    one = pack_trials(first, console, known=known, meter=meter)
    assert [reading.gpu.name for reading in one.packing.readings] == ["small"]
    assert (both.machines.num_gpus, one.machines.num_gpus) == (2, 1)


def test_on_the_cpu_and_with_a_number_nothing_is_measured(tmp_path):
    prepared = prepare(tmp_path, gpus=0)
    assert pack_trials(prepared, Console(), meter=make_gpu(tmp_path / "gpu")) is prepared
    number = prepared.space.model_copy(update={"resources": Resources(trials_per_gpu=4)})
    there = replace(prepared, space=number, machines=replace(prepared.machines, num_gpus=1))
    assert pack_trials(there, Console(), meter=make_gpu(tmp_path / "gpu")) is there
    assert not list((tmp_path / "gpu").iterdir())


def test_the_plan_says_that_it_is_measured_at_start(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    print_plan(make_plan(prepare(tmp_path, gpus=0), console), console)
    told = "packing   trials_per_gpu is measured at start; without GPUs cpus_per_trial alone decides"
    assert told in console.file.getvalue()


def test_a_search_measures_packs_and_does_not_measure_again(ray_with_a_gpu, tmp_path):
    gpu, console = make_gpu(tmp_path / "gpu"), Console(file=io.StringIO(), width=200)
    prepared = prepare(tmp_path / "runs", run_cap=1)
    result = run_search(prepared, console, job=train_on_the_cpu, meter=gpu)
    assert result.exit_code == 0
    assert TOLD in console.file.getvalue()
    record = read_run_record(result.run)
    assert (record.packing["trials_per_gpu"], record.packing["num_in_memory"]) == (4, 6)
    assert (result.run / "shares.txt").read_text().split() == ["0.25"] * 2

    # As if it had been stopped before its second trial.
    write_run(result.run, replace(record, space=record.space | {"run_cap": 2}))
    again = reopen_search(read_run(result.run), prepared.options, console)
    assert run_search(again, console, job=train_on_the_cpu, meter=gpu).exit_code == 0
    assert (result.run / "shares.txt").read_text().split() == ["0.25"] * 3
    assert console.file.getvalue().count(TOLD) == 2
    assert gpu.num_trained == 1


def test_other_gpus_are_measured_again_and_where_not_one_trial_fits_nothing_is_begun(ray_with_a_gpu, tmp_path):
    gpu = make_gpu(tmp_path / "gpu", total=3 * GIB)
    prepared = prepare(tmp_path / "runs")
    larger = replace(make_reading(3.5), gpu=replace(*gpu.gpus(), total_bytes=24 * GIB))
    known = pack([larger], [], prepared.machines).to_dict()
    with pytest.raises(ResourceError, match="one trial must fit on Stand-in, got convnet_small at 32 px, batch 32"):
        pack_trials(prepared, Console(file=io.StringIO()), known=known, meter=gpu)
    assert gpu.num_trained == 1


def test_a_gpu_that_torch_cannot_use_is_told_by_its_machine(ray_with_a_gpu, tmp_path):
    with pytest.raises(ClusterError) as error:
        pack_trials(prepare(tmp_path / "runs"), Console(file=io.StringIO()))
    (address,) = (node["NodeManagerAddress"] for node in ray.nodes())
    told = "GPU: must be one that torch can use, got none; nvidia-smi shows what the driver knows of"
    assert str(error.value) == f"{address}: {told}"


def test_every_choice_that_decides_memory_is_ranked():
    for name, values in _HEAVIEST_FIRST.items():
        assert set(values) == set(get_args(Explanation.model_fields[name].annotation))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (32, 32, "none")),
        ({"start": {"epochs": 1, "batch_size": 64}, "weights": "baseline"}, (32, 64, "none")),
        ({"parameters": {"image_size": {"values": [64, 96, 32]}, "batch_size": {"values": [8, 16]}}}, (96, 16, "none")),
        ({"start": {"epochs": 1, "batch_size": 16}, "weights": "baseline"}, (32, 32, "none")),
        ({"explanation": {"detach": "second-view"}}, (32, 32, "second-view")),
        ({"parameters": {"detach": {"values": ["second-view", "none"]}}}, (32, 32, "none")),
        ({"parameters": {"detach": {"values": ["second-view", "head"]}}}, (32, 32, "head")),
    ],
)
def test_the_heaviest_trial_that_a_space_may_sample_is_measured(changes, expected):
    (settings,) = heaviest_trials(make_space(**SHORT | changes))
    recipe, explanation = settings.recipe, settings.explanation
    assert (recipe.image_size, recipe.batch_size, explanation.detach) == expected
    assert explanation.alpha > 0
    assert explanation.beta > 0
    assert explanation.photometric == 0


def test_a_photometric_trial_that_a_space_may_sample_is_the_one_that_is_measured():
    parameters = {"alpha": {"value": 1}, "photometric": {"values": [0, 0.5]}}
    (settings,) = heaviest_trials(make_space(**SHORT | {"parameters": parameters}))
    assert settings.explanation.photometric > 0
