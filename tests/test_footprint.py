"""What a trial takes of a GPU: the arithmetic exactly, the measuring on a stand-in, and on CUDA where there is some."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gcc_search import footprint
from gcc_search.errors import DataError, ResourceError
from gcc_search.footprint import (
    CudaMeter,
    Footprint,
    Gpu,
    Reading,
    Usage,
    _shortened,
    in_fresh_process,
    measure_networks,
    use_memory,
    wait_until_released,
)
from gcc_search.settings import TrialSettings
from tests.gpu_alone import alone
from tests.standin_gpu import GIB, StandInGpu

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: CUDA is not tried")


@pytest.mark.parametrize(
    ("free", "now", "peak", "expected"),
    [
        # 20 were free, 14 are: 5 of the allocator, 1 of context and kernels.
        (14, 5, 5, 6),
        # The allocator gave two back when it was short.
        (14, 5, 7, 8),
        # Another process freed four meanwhile.
        (18, 5, 5, 5),
    ],
)
def test_a_peak_is_what_the_allocator_held_and_what_lies_beside_it(free, now, peak, expected):
    assert Usage(free_bytes=free, reserved_bytes=now, peak_reserved_bytes=peak).peak_bytes(20) == expected


def test_a_network_is_seen_from_another_process_context_and_all(tiny_trial, tmp_path):
    gpu = StandInGpu(folder=tmp_path, taken=GIB)
    reading = measure_networks([tiny_trial], 0, gpu)
    # This process's own context is there, too.
    assert reading.usable_bytes == 22.5 * GIB
    assert reading.gpu == Gpu(name="Stand-in", total_bytes=24 * GIB)
    footprint = Footprint(network="convnet_small", image_size=32, batch_size=16, peak_bytes=3584 << 20)
    assert reading.footprints == (footprint,)
    assert gpu.num_trained == 1


def measure_in_little_memory(settings: TrialSettings, folder: Path) -> Reading:
    """No process from here on gets much more than Python and torch take."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + (200 << 20),) * 2)
    return measure_networks([settings], 0, StandInGpu(folder=folder))


def test_a_network_that_does_not_fit_once_is_one_line(tiny_trial, tmp_path):
    large = tiny_trial.model_copy(update={"network": "convnext_tiny"})
    with pytest.raises(ResourceError) as error:
        in_fresh_process(measure_in_little_memory, large, tmp_path)
    assert str(error.value) == (
        "resources.trials_per_gpu: one trial must fit on Stand-in, got convnext_tiny at 32 px, batch 16: out of memory "
        "(23.5 GiB were free); lower batch_size or image_size, or end what else runs there"
    )


def refuse(_: int) -> None:
    raise DataError("data.root: folder must exist, got none")


def divide(number: int) -> float:
    return number / 0


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("task", "kind", "told"),
    [
        (refuse, DataError, "data.root: folder must exist, got none"),
        (divide, ResourceError, "got ZeroDivisionError: division by zero; give a number to resources.trials_per_gpu"),
        (die, ResourceError, "got its process died (killed, or crashed); give a number to resources.trials_per_gpu"),
    ],
)
def test_what_goes_wrong_in_another_process_is_one_line(task, kind, told):
    with pytest.raises(kind) as error:
        in_fresh_process(task, 1)
    assert str(error.value).endswith(told)


class Clock:
    """A GPU whose memory is freed as time goes by."""

    def __init__(self, *free: int) -> None:
        self._free = list(free)

    def free(self, device: torch.device) -> int:
        return self._free.pop(0) if len(self._free) > 1 else self._free[0]


@pytest.mark.parametrize(("free", "least"), [((5,), 0.2), ((5,) * 8 + (6,), 0.3)])
def test_one_that_is_to_be_alone_waits_until_nothing_more_is_freed(free, least):
    begun = time.monotonic()
    wait_until_released(CPU, Clock(*(count * GIB for count in free)), quiet_seconds=0.2)
    assert least <= time.monotonic() - begun < least + 1


@alone
@needs_cuda
def test_cuda_says_what_the_stand_in_says(tiny_trial):
    meter = CudaMeter()
    reading = in_fresh_process(measure_networks, [tiny_trial], 0, meter)
    (footprint,) = reading.footprints
    assert reading.gpu == meter.gpus()[0]
    assert 0 < reading.usable_bytes < reading.gpu.total_bytes
    # A context alone is 100 to 1000 MiB; this network trains in less.
    assert 100 << 20 < footprint.peak_bytes < 3 << 30
    usage = in_fresh_process(use_memory, tiny_trial, meter.device(0), meter)
    assert usage.reserved_bytes <= usage.peak_reserved_bytes < footprint.peak_bytes - (50 << 20)
    again = in_fresh_process(measure_networks, [tiny_trial], 0, meter).footprints[0]
    assert abs(again.peak_bytes - footprint.peak_bytes) < 64 << 20


@pytest.mark.parametrize(("full_batches", "expected"), [(2, 38), (4, 70), (9, 70)])
def test_what_is_watched_ends_in_the_last_smaller_batch(shapes, full_batches, expected):
    images = shapes.train.subset(torch.arange(70) % len(shapes.train))
    assert len(_shortened(images, 16, full_batches=full_batches)) == expected


@pytest.mark.parametrize("validation", [10, 30])
def test_the_larger_of_both_scored_parts_is_watched(tiny_trial, shapes, monkeypatch, validation):
    parts = {"validation": validation, "test": 40 - validation}
    images = {name: shapes.train.subset(torch.arange(count)) for name, count in parts.items()}
    watched = []
    monkeypatch.setattr(footprint, "open_dataset", lambda *given: replace(shapes, **images))
    monkeypatch.setattr(footprint, "measure", lambda passes, shown, evaluation: watched.append(len(shown)))
    footprint._train_briefly(tiny_trial, torch.device("cpu"))
    # Three batches of 16, cut to what there is.
    assert set(watched) == {30}
