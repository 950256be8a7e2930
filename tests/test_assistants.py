"""One network trained by several processes: the numbers of one, and one end for all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from gcc_search.identity import Identity
from gcc_search.recording import record_trial
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import EpochRow
from gcc_search.settings import Explanation, TrialSettings
from gcc_search.trial import Ended

CPU = torch.device("cpu")
NOT_REPEATABLE = ("train_seconds", "evaluation_seconds", "peak_memory_bytes")


def start(settings: TrialSettings, folder: Path, *, num_processes: int, **options) -> Iterator[EpochRow | Ended]:
    identity = Identity(id=folder.name)
    return record_trial(settings, folder, identity, device=CPU, num_processes=num_processes, **options)


def run(settings: TrialSettings, folder: Path, *, num_processes: int) -> tuple[list[dict[str, float | None]], Ended]:
    *rows, ended = start(settings, folder, num_processes=num_processes)
    assert isinstance(ended, Ended)
    return [repeatable(row) for row in rows], ended


def repeatable(row: EpochRow) -> dict[str, float | None]:
    return {name: value for name, value in row.to_dict().items() if name not in NOT_REPEATABLE}


def assistants() -> list[int]:
    """Processes that this one started, and that are still there."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "gcc_search.assistants" in line]


def with_recipe(settings: TrialSettings, **changes) -> TrialSettings:
    return settings.model_copy(update={"recipe": settings.recipe.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("num_processes", "explanation"),
    [
        (2, Explanation(alpha=1.0, beta=0.1)),
        # 16 and 64 images by three: shares are not equal.
        (3, Explanation(alpha=1.0, beta=0.1, detach="second-view")),
    ],
)
def test_several_processes_give_the_rows_of_one(tiny_trial, tmp_path, num_processes, explanation):
    settings = tiny_trial.model_copy(update={"explanation": explanation})
    expected, alone = run(settings, tmp_path / "alone", num_processes=1)
    rows, ended = run(settings, tmp_path / "together", num_processes=num_processes)
    assert_close(rows, expected, rtol=1e-4, atol=1e-5)
    assert_close(ended.summary, alone.summary, rtol=1e-3, atol=1e-4)
    assert assistants() == []


def test_all_go_on_from_the_checkpoint_that_one_finds(tiny_trial, tmp_path):
    expected, _ = run(tiny_trial, tmp_path / "alone", num_processes=1)
    first = start(tiny_trial, tmp_path / "together", num_processes=2)
    row, _ = next(first), next(first)
    first.close()
    (tmp_path / "together" / "trial.json").exists()
    rows, _ = run(tiny_trial, tmp_path / "together", num_processes=2)
    assert_close([repeatable(row), *rows], expected, rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_ends_all(tiny_trial, tmp_path):
    (row,), ended = run(with_recipe(tiny_trial, lr=1e30), tmp_path / "t1", num_processes=2)
    assert ended.status == "diverged"
    assert row["epoch"] == 1
    assert assistants() == []


def test_an_early_stop_ends_all_in_seconds(tiny_trial, tmp_path):
    events = start(with_recipe(tiny_trial, epochs=50), tmp_path / "t1", num_processes=2)
    next(events)
    assert len(assistants()) == 1
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 3
    assert assistants() == []
    assert read_trial(tmp_path / "t1").record.status == "stopped"


@pytest.mark.parametrize("phase", ["train", "validate"])
def test_one_that_is_killed_ends_all_and_is_a_failed_attempt(tiny_trial, tmp_path, phase):
    killed: list[float] = []

    def kill(progress) -> None:
        if progress.phase == phase and progress.epoch == 2 and not killed:
            killed.append(time.monotonic())
            os.kill(assistants()[0], signal.SIGKILL)

    events = start(with_recipe(tiny_trial, epochs=50), tmp_path / "t1", num_processes=3, on_progress=kill)
    with pytest.raises(ChildProcessError, match="process 1 of those that train this network was killed by signal 9"):
        list(events)
    assert time.monotonic() - killed[0] < 8
    assert assistants() == []
    record = read_trial(tmp_path / "t1").record
    assert (record.status, record.failures, record.epochs_done) == ("failed", ["crash"], 2 if phase == "none" else 1)
