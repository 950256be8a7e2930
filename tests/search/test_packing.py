"""How many trials share a GPU, exactly; and what run.json keeps of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gcc_search.errors import ResourceError
from gcc_search.footprint import Footprint, Gpu, Reading
from gcc_search.search.machines import Machines, Node
from gcc_search.search.packing import known_readings, num_fitting, pack
from tests.standin_gpu import GIB

A10G, T4 = Gpu(name="NVIDIA A10G", total_bytes=24 * GIB), Gpu(name="Tesla T4", total_bytes=16 * GIB)


def make_reading(*peaks: float, gpu: Gpu = A10G, usable: float = 23) -> Reading:
    names = ("resnet18", "resnet50", "convnext_tiny")
    footprints = [
        Footprint(network=name, image_size=224, batch_size=32, peak_bytes=int(peak * GIB))
        for name, peak in zip(names, peaks, strict=False)
    ]
    return Reading(gpu=gpu, usable_bytes=int(usable * GIB), footprints=tuple(footprints))


def make_machines(num_gpus: int = 1, cpus_per_trial: float = 1) -> Machines:
    return Machines(num_gpus=num_gpus, num_cpus=64, slots=1, gpus_per_trial=1, cpus_per_trial=cpus_per_trial)


def make_node(num_cpus: float = 64, num_gpus: float = 1) -> Node:
    return Node(host="10.0.0.2", num_cpus=num_cpus, num_gpus=num_gpus)


HEAD = make_node(num_cpus=0, num_gpus=0)


@pytest.mark.parametrize(
    ("usable", "peaks", "expected"),
    [
        (20, [3], 6),  # 18 / 3, exactly
        (20, [3.01], 5),
        (19.9, [3], 5),
        (23, [3, 5, 4], 4),  # the largest network decides
        (20, [18], 1),
        (20, [19], 1),  # within the headroom, and it fits
        (20, [20], 1),
    ],
)
def test_nine_tenths_of_what_is_usable_are_shared_out(usable, peaks, expected):
    assert num_fitting(make_reading(*peaks, usable=usable)) == expected


def test_a_trial_that_is_larger_than_what_is_usable_fits_nowhere():
    with pytest.raises(ResourceError) as error:
        pack([make_reading(3, 21, usable=20)], [make_node()], make_machines())
    assert str(error.value) == (
        "resources.trials_per_gpu: one trial must fit on NVIDIA A10G, got resnet50 at 224 px, batch 32: out of memory "
        "(20.0 GiB were free); lower batch_size or image_size, or end what else runs there"
    )


@pytest.mark.parametrize(
    ("nodes", "num_gpus", "cpus_per_trial", "expected"),
    [
        ([make_node()], 1, 1, (7, "memory")),
        ([make_node(num_cpus=8)], 1, 2, (4, "cpus")),
        ([make_node(num_cpus=7)], 1, 1, (7, "memory")),
        ([make_node(num_cpus=32, num_gpus=8)], 8, 1, (4, "cpus")),
        # Of eight GPUs the search uses two.
        ([make_node(num_cpus=32, num_gpus=8)], 2, 1, (7, "memory")),
        # One trial on each GPU at least: how many run is the machine's matter.
        ([make_node(num_cpus=2, num_gpus=4)], 4, 1, (1, "cpus")),
        ([HEAD, make_node(num_cpus=64), make_node(num_cpus=6)], 2, 2, (3, "cpus")),
        # Machines with GPUs are still to join.
        ([HEAD], 2, 2, (7, "memory")),
    ],
)
def test_no_more_than_the_cpus_beside_a_gpu_serve(nodes, num_gpus, cpus_per_trial, expected):
    packing = pack([make_reading(2.8)], nodes, make_machines(num_gpus, cpus_per_trial))
    assert (packing.trials_per_gpu, packing.limit) == expected
    assert packing.num_in_memory == 7


def test_the_tightest_kind_of_gpu_decides():
    packing = pack([make_reading(3), make_reading(3.2, gpu=T4, usable=15)], [make_node()], make_machines())
    assert packing.trials_per_gpu == 4
    assert packing.told() == "resnet18 at 224 px, batch 32: 3.2 GiB a trial; 4 trials on each GPU of 16 GiB"


@pytest.mark.parametrize(
    ("peaks", "num_cpus", "told"),
    [
        ([2.5], 64, "resnet18 at 224 px, batch 32: 2.5 GiB a trial; 8 trials on each GPU of 24 GiB"),
        ([2.5, 15], 64, "resnet50 at 224 px, batch 32: 15.0 GiB a trial; 1 trial on each GPU of 24 GiB"),
        (
            [2.5],
            4,
            "resnet18 at 224 px, batch 32: 2.5 GiB a trial; 4 trials on each GPU of 24 GiB, as many as cpus_per_trial "
            "allows there (memory would hold 8)",
        ),
        (
            [0.4],
            64,
            "resnet18 at 224 px, batch 32: 0.4 GiB a trial; 32 trials on each GPU of 24 GiB (memory would hold 51)",
        ),
    ],
)
def test_what_was_chosen_is_one_line(peaks, num_cpus, told):
    assert pack([make_reading(*peaks)], [make_node(num_cpus=num_cpus)], make_machines()).told() == told


def test_what_run_json_keeps_is_known_again_on_the_same_kinds_of_gpu():
    readings = [make_reading(3), make_reading(3.2, gpu=T4, usable=15)]
    kept = json.loads(json.dumps(pack(readings, [make_node()], make_machines()).to_dict()))
    assert (kept["trials_per_gpu"], kept["limit"]) == (4, "memory")
    assert known_readings(kept, [T4, A10G]) == readings[::-1]
    assert known_readings(kept, [A10G]) == readings[:1]
    # They are still to join.
    assert known_readings(kept, []) == readings
    assert known_readings(kept, [replace(A10G, total_bytes=48 * GIB)]) is None
    assert known_readings(kept, [A10G, replace(T4, name="L4")]) is None


@pytest.mark.parametrize(
    "content",
    [None, {}, {"readings": 3}, {"readings": [{"gpu": "A10G"}]}, {"readings": []}],
)
def test_what_is_no_reading_is_not_known(content):
    assert known_readings(content, [A10G]) is None
    assert known_readings(content, []) is None


def test_a_reading_without_bytes_or_of_no_network_is_not_known():
    kept = pack([make_reading(3)], [make_node()], make_machines()).to_dict()
    kept["readings"][0]["footprints"][0]["peak_bytes"] = 0
    assert known_readings(kept, [A10G]) is None
    kept["readings"][0]["footprints"] = []
    assert known_readings(kept, [A10G]) is None
