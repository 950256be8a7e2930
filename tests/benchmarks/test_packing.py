from __future__ import annotations

import os
import sys

import pytest
import torch
from torch.testing import assert_close

from benchmarks.mps import NoMpsError, multi_process_service
from benchmarks.one_process import InTurn, measure_ways, shown_batches
from benchmarks.packed_processes import measure_processes
from benchmarks.stacked import GroupedTrials, MappedTrials
from benchmarks.trial_at_hand import Case

CPU = torch.device("cpu")
SMALL = Case(
    network="convnet_small", image_size=32, batch_size=4, counts=(1, 2), together=(1, 2), window_seconds=0.2, batches=2
)


@pytest.mark.parametrize("stacked", [GroupedTrials, MappedTrials])
def test_trials_that_are_stacked_learn_what_each_learns_by_itself(stacked):
    images = SMALL.images()
    apart, together = InTurn(SMALL, CPU, 3), stacked(SMALL, CPU, 3)
    for _, shown in zip(range(3), shown_batches(SMALL, images, CPU), strict=False):
        assert_close(together.step(shown), apart.step(shown), rtol=1e-5, atol=1e-5)


def test_every_way_and_every_round_of_processes_has_its_rate():
    assert [rate.count for rate in measure_processes(SMALL, "cpu", threads=2)] in ([1, 2, 2], [2, 1, 2])
    ways = measure_ways(SMALL, "cpu", ["in turn", "threads"], threads=1)
    assert all(rate.images_per_second > 0 for way in ways.values() for rate in way)


def test_what_torch_cannot_do_is_told_and_the_rest_measured():
    ways = measure_ways(SMALL, "cpu", ["streams", "in turn"], threads=1)
    assert isinstance(ways["streams"], str)
    assert len(ways["in turn"]) == 2


def test_a_process_that_fails_is_told_of():
    lost = Case(network="convnet_large", image_size=32, batch_size=4, counts=(2,), window_seconds=0.2)
    with pytest.raises(RuntimeError, match="convnet_large"):
        measure_processes(lost, "cpu", threads=2)


def test_a_service_that_does_not_start_is_left_out(tmp_path, monkeypatch):
    control = tmp_path / "nvidia-cuda-mps-control"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoMpsError, match="not installed"), multi_process_service():
        pass
    control.write_text(f"#!{sys.executable}\nraise SystemExit('no device')\n")
    control.chmod(0o755)
    with pytest.raises(NoMpsError, match="no device"), multi_process_service():
        pass


def test_a_service_is_for_processes_of_the_body_alone_and_ends_with_it(tmp_path, monkeypatch):
    control, heard = tmp_path / "nvidia-cuda-mps-control", tmp_path / "heard"
    monkeypatch.setenv("PATH", str(tmp_path))
    control.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"said = '' if sys.argv[1:] else input()\n"
        f"print(sys.argv[1:], said, os.environ['CUDA_MPS_PIPE_DIRECTORY'], file=open({str(heard)!r}, 'a'))\n"
    )
    control.chmod(0o755)
    with multi_process_service():
        place = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert heard.read_text().splitlines() == [f"['-d']  {place}", f"[] quit {place}"]
