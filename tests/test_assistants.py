"""One network trained by several processes: the numbers of one, and one end for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
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


def assistants(of: int | None = None) -> list[int]:
    """Those that process `of` (this one) started, and that are still there."""
    children = psutil.Process(of).children()
    return [child.pid for child in children if "gcc_search.assistants" in child.cmdline()]


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


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


def test_after_ctrl_c_all_go_on_from_the_checkpoint_that_one_finds(tiny_trial, tmp_path):
    expected, _ = run(tiny_trial, tmp_path / "alone", num_processes=1)
    first = start(tiny_trial, tmp_path / "together", num_processes=2)
    row, _ = next(first), next(first)
    with pytest.raises(KeyboardInterrupt):
        first.throw(KeyboardInterrupt)
    assert assistants() == []
    assert read_trial(tmp_path / "together").record.status == "interrupted"
    rows, _ = run(tiny_trial, tmp_path / "together", num_processes=2)
    assert_close([repeatable(row), *rows], expected, rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_not_finite_ends_all(tiny_trial, tmp_path):
    (row,), ended = run(with_recipe(tiny_trial, lr=1e30), tmp_path / "t1", num_processes=2)
    assert ended.status == "diverged"
    assert row["epoch"] == 1
    assert assistants() == []


def test_all_share_the_threads_of_one(tiny_trial, tmp_path):
    torch.set_num_threads(3)
    try:
        seen: set[int] = set()
        settings = with_recipe(tiny_trial, epochs=1)
        events = start(
            settings, tmp_path / "t1", num_processes=2, on_progress=lambda _: seen.add(torch.get_num_threads())
        )
        list(events)
        assert (seen, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(1)


def test_an_early_stop_ends_all_in_seconds(tiny_trial, tmp_path):
    events = start(with_recipe(tiny_trial, epochs=50), tmp_path / "t1", num_processes=2)
    next(events)
    assert len(assistants()) == 1
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < 10
    assert assistants() == []
    assert read_trial(tmp_path / "t1").record.status == "stopped"


# There is one batch to validate on: the first step after it finds out.
@pytest.mark.parametrize(("num_processes", "phase", "epochs_done"), [(3, "train", 1), (2, "validate", 2)])
def test_one_that_is_killed_ends_all_and_is_a_failed_attempt(tiny_trial, tmp_path, num_processes, phase, epochs_done):
    killed: list[float] = []

    def kill(progress) -> None:
        if progress.phase == phase and progress.epoch == 2 and not killed:
            killed.append(time.monotonic())
            os.kill(assistants()[0], signal.SIGKILL)

    events = start(with_recipe(tiny_trial, epochs=50), tmp_path / "t1", num_processes=num_processes, on_progress=kill)
    with pytest.raises(ChildProcessError, match="process 1 of those that train this network was killed by signal 9"):
        list(events)
    assert time.monotonic() - killed[0] < 10
    assert assistants() == []
    record = read_trial(tmp_path / "t1").record
    assert (record.status, record.failures, record.epochs_done) == ("failed", ["crash"], epochs_done)


def test_one_that_cannot_start_ends_the_attempt_at_once(tiny_trial, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ChildProcessError, match="exited with 1"):
        list(start(tiny_trial, tmp_path / "t1", num_processes=2))
    assert read_trial(tmp_path / "t1").record.failures == ["crash"]


RANK_0 = """
import sys
from pathlib import Path
import torch
from gcc_search.identity import Identity
from gcc_search.recording import record_trial
from gcc_search.settings import TrialSettings

settings = TrialSettings.model_validate_json(sys.argv[1])
folder = Path(sys.argv[2])
for row in record_trial(settings, folder, Identity(id="t1"), device=torch.device("cpu"), num_processes=2):
    print(row.epoch, flush=True)
"""


def test_rank_0s_death_ends_the_others(tiny_trial, tmp_path):
    settings = with_recipe(tiny_trial, epochs=50).model_dump_json()
    command = [sys.executable, "-c", RANK_0, settings, str(tmp_path / "t1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as rank_0:
        assert rank_0.stdout.readline() == b"1\n"
        (assistant,) = assistants(of=rank_0.pid)
        rank_0.kill()
    deadline = time.monotonic() + 10
    while is_alive(assistant):
        assert time.monotonic() < deadline, "it goes on alone"
        time.sleep(0.05)
