"""A full disk is waited for: a real file system of a few megabytes, filled and emptied."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from rich.console import Console

from gcc_search.atomic import write_atomically
from gcc_search.errors import DiskFullError, ResourceError
from gcc_search.identity import Identity
from gcc_search.patience import LIMIT_VARIABLE, UNHEARD, Contact, patiently
from gcc_search.recording import record_trial
from gcc_search.results.reader import read_run, read_trial
from gcc_search.search.baselines import find_baseline
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.search.study import NetworkStudy
from gcc_search.search.study_copy import open_own_storage
from tests.search.conftest import TINY, make_space
from tests.search.test_study import make_record

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """What takes all the room there is, down to the last bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MEGABYTE, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


def free_after(seconds: float, ballast: Path) -> None:
    threading.Timer(seconds, ballast.unlink).start()


def test_a_full_disk_says_which_folder_and_how_much_is_missing(small_disk):
    write_atomically(small_disk / "b.bin", b"old")
    fill(small_disk)
    with pytest.raises(DiskFullError) as caught:
        write_atomically(small_disk / "b.bin", bytes(2 * MEGABYTE))
    told = r"disk must have 2\.1 MB more, got 0\.0 kB free; delete something there"
    assert re.fullmatch(f"{small_disk}: {told}", str(caught.value))
    assert sorted(path.name for path in small_disk.iterdir()) == ["b.bin", "ballast"]
    assert (small_disk / "b.bin").read_bytes() == b"old"


def test_a_write_goes_on_when_there_is_room_again(small_disk):
    lines, beats = [], []
    free_after(1.0, fill(small_disk))
    contact = Contact(tell=lines.append, beat=lambda: beats.append(1))
    patiently(lambda: write_atomically(small_disk / "b.bin", bytes(MEGABYTE)), contact)
    assert (small_disk / "b.bin").read_bytes() == bytes(MEGABYTE)
    assert lines[0].startswith(f"paused, the disk is full: {small_disk}: disk must have 1.0 MB more")
    assert lines[0].endswith("; tries again for 60 minutes")
    assert lines[1:] == ["goes on: there is room on the disk again"]
    assert beats


def test_patience_ends_with_the_reason(small_disk, monkeypatch):
    fill(small_disk)
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    began = time.monotonic()
    with pytest.raises(DiskFullError, match=r"delete something there \(waited 0 minutes\)"):
        patiently(lambda: write_atomically(small_disk / "b.bin", bytes(MEGABYTE)), UNHEARD)
    assert 1 <= time.monotonic() - began < 10


def test_a_limit_that_is_no_number_is_one_line(small_disk, monkeypatch):
    fill(small_disk)
    monkeypatch.setenv(LIMIT_VARIABLE, "an hour")
    with pytest.raises(ResourceError, match=f"{LIMIT_VARIABLE}: must be a number of seconds, got an hour"):
        patiently(lambda: write_atomically(small_disk / "b.bin", bytes(MEGABYTE)), UNHEARD)


def test_such_a_limit_is_told_before_a_search_begins(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "an hour")
    with pytest.raises(ResourceError, match=f"{LIMIT_VARIABLE}: must be a number of seconds, got an hour"):
        prepare_search(make_space(), SearchOptions(out=tmp_path, gpus=0), Console(file=io.StringIO()))


def record(settings, folder: Path, on_progress=None) -> list[str]:
    """The lines that a trial told."""
    lines: list[str] = []
    identity, device = Identity(id="t"), torch.device("cpu")
    for _ in record_trial(settings, folder, identity, device=device, on_progress=on_progress, on_notice=lines.append):
        pass
    return lines


def rows_in(folder: Path) -> list[dict[str, object]]:
    return read_trial(folder).epochs(["epoch", "loss", "accuracy_points"]).to_pylist()


def test_a_trial_pauses_on_a_full_disk_and_ends_as_the_undisturbed_one(small_disk, tiny_trial, tmp_path):
    filled = []

    def fill_in_epoch_2(state) -> None:
        if (state.phase, state.epoch) == ("validate", 2) and not filled:
            filled.append(fill(small_disk))
            free_after(1.0, filled[0])

    record(tiny_trial, tmp_path / "undisturbed")
    lines = record(tiny_trial, small_disk / "t", fill_in_epoch_2)
    assert lines[0].startswith(f"paused, the disk is full: {small_disk}/t: disk must have ")
    assert rows_in(small_disk / "t") == rows_in(tmp_path / "undisturbed")
    assert not [path for path in (small_disk / "t").iterdir() if path.name.endswith(".tmp")]


def test_a_trial_that_waited_too_long_fails_with_the_reason(small_disk, tiny_trial, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "1")

    def fill_in_epoch_2(state) -> None:
        if (state.phase, state.epoch) == ("train", 2):
            fill(small_disk)

    with pytest.raises(DiskFullError, match="waited"):
        record(tiny_trial, small_disk / "t", fill_in_epoch_2)
    # Nothing could be written that says so; what was before is whole.
    assert (read_trial(small_disk / "t").record.status, rows_in(small_disk / "t")[-1]["epoch"]) == ("running", 1)


def test_a_search_on_a_full_disk_says_so_stops_when_asked_and_is_resumed(small_disk, tmp_path):
    changes = {"weights": "none", "start": None, "run_cap": 1, "recipe": {"epochs": 400, "image_size": 32}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(TINY | changes))
    program = [sys.executable, "-m", "gcc_search"]
    command = [*program, "--space", "space.yaml", "--gpus", "0", "--out", str(small_disk / "runs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        for line in process.stdout:
            if ": started" in line:
                break
        while not list(small_disk.glob("runs/tiny/baselines/*/checkpoint/*")):
            time.sleep(0.1)
        ballast = fill(small_disk)
        for line in process.stdout:
            if "paused, the disk is full" in line:
                break
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert f"go on:   gcc-search resume {small_disk}/runs/tiny --gpus 0" in printed
    ballast.unlink()
    run = read_run(small_disk / "runs" / "tiny")
    assert run.problems == ()
    # What the worker had half-written goes with it, which may leave room for a record.
    (status,) = (trial.record.status for trial in run.baselines.values())
    assert status == ("running" if "not recorded as interrupted" in printed else "interrupted")
    assert run.baselines[next(iter(run.baselines))].record.epochs_done > 0


def lender_on(disk: Path, tiny_run: Path) -> Path:
    """A finished run on `disk`, which has a baseline for those beside it."""
    return Path(shutil.copytree(tiny_run, disk / "lender"))


def test_a_baseline_is_copied_when_there_is_room_for_it(small_disk, tiny_run):
    lender, lines = lender_on(small_disk, tiny_run), []
    free_after(1.0, fill(small_disk))
    found = find_baseline(small_disk / "new", "base", Contact(tell=lines.append), on_gpu=False)
    assert found == read_trial(lender / "baselines/base").record
    assert lines[0].startswith(f"paused, the disk is full: {small_disk}/new/baselines: disk must have ")
    assert lines[1:] == ["goes on: there is room on the disk again"]
    copied = small_disk / "new/baselines"
    assert [path.name for path in copied.iterdir()] == ["base"]
    for path in (lender / "baselines/base").iterdir():
        assert (copied / "base" / path.name).read_bytes() == path.read_bytes()


def test_a_baseline_for_which_there_is_no_room_leaves_nothing(small_disk, tiny_run, monkeypatch):
    lender_on(small_disk, tiny_run)
    fill(small_disk)
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    with pytest.raises(DiskFullError, match=f"^{small_disk}/new/baselines: disk must have .* more, got 0.0 kB free"):
        find_baseline(small_disk / "new", "base", UNHEARD, on_gpu=False)
    assert list((small_disk / "new/baselines").iterdir()) == []


@pytest.mark.parametrize("version", ["5.0.0", "5.1.0"])
def test_a_study_waits_for_room_for_its_copy(small_disk, monkeypatch, version):
    """Written by us, and by Optuna."""
    monkeypatch.setattr(optuna, "__version__", version)
    database, lines = small_disk / "study.db", []
    study = NetworkStudy(make_space(), "convnet_small", open_own_storage(database), cap=4, tell=lines.append)
    trial_id, _ = study.ask()
    free_after(1.0, fill(small_disk))
    # Optuna itself tries for a few seconds to ask.
    study.tell(make_record(trial_id), make_record())
    assert lines[0].startswith("paused, the disk is full: database of the study tiny/convnet_small: disk must have")
    assert lines[1:] == ["goes on: there is room on the disk again"]
    loaded = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{database}")
    assert [trial.values for trial in loaded.trials] == [[0.5, 0.4]]
