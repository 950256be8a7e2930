"""A search whose trials are each trained by two processes: as on two GPUs, with gloo on the CPU."""

from __future__ import annotations

import io
import os
import signal
import threading
import time

import psutil
import pytest
import torch
from rich.console import Console
from torch.testing import assert_close

from gcc_search.results.reader import read_run
from gcc_search.results.schema import EpochRow
from gcc_search.search.launch import run_search
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.search.trainable import train_job
from gcc_search.settings import TrialSettings
from gcc_search.trial import Surroundings, run_trial
from tests.search.conftest import make_space
from tests.search.test_retries import ONE_TRIAL, record_of, rows_of

CPU = Surroundings(device=torch.device("cpu"))
pytestmark = pytest.mark.usefixtures("one_ray")


def train_by_two(config, **surroundings) -> None:
    train_job(config, **surroundings | {"num_processes": 2})


def assistants() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "gcc_search.assistants" in words_of(child)]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        # Dead, if not buried yet.
        return []


def test_a_trial_that_loses_one_of_its_processes_is_tried_again_and_ends_with_the_rows_of_one(tmp_path):
    killed: list[int] = []

    def kill_in_epoch_2() -> None:
        run, end = tmp_path / "tiny", time.monotonic() + 200
        while not killed and time.monotonic() < end:
            if record_of(run).get("epochs_done") == 1:
                killed.extend(process.pid for process in assistants())
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_in_epoch_2, daemon=True)
    thread.start()
    console = Console(file=io.StringIO(), width=200)
    prepared = prepare_search(make_space(**ONE_TRIAL), SearchOptions(out=tmp_path, gpus=0), console)
    result = run_search(prepared, console, job=train_by_two)
    thread.join()
    assert len(killed) == 1
    record = read_run(result.run).trials[0].record
    assert (record.attempts, record.failures) == (2, ["crash"])
    # Alone and without its baseline: it trains on where the search saw a collapse.
    settings = TrialSettings.model_validate(record.settings)
    expected = [event.to_dict() for event in run_trial(settings, CPU) if isinstance(event, EpochRow)]
    rows = rows_of(result)
    assert len(rows) >= 2
    for row, alone in zip(rows, expected, strict=False):
        # Not the measures that count pixels: one more or less is more than noise.
        for name in ("loss", "cross_entropy", "consistency_loss", "sparsity_loss"):
            assert_close(row[name], alone[name], rtol=1e-3, atol=1e-4)
    assert assistants() == []
