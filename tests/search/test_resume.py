"""A search that was killed goes on as if nothing had happened."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest
import yaml
from PIL import Image
from rich.console import Console

from gcc_search.errors import GccSearchError, SpaceError
from gcc_search.results.reader import Run, read_run
from gcc_search.results.writer import write_trial
from gcc_search.search.launch import run_search
from gcc_search.search.lock import only_driver
from gcc_search.search.readiness import SearchOptions, reopen_search
from tests.search.conftest import ONE_AT_A_TIME, TINY, make_space, results_of, run_space

pytestmark = pytest.mark.usefixtures("one_ray")

SEQUENTIAL = TINY | ONE_AT_A_TIME | {"run_cap": 4, "method": "bayes"}


def resume(folder: Path, **changes) -> tuple[Run, str]:
    """The run after it has been resumed, and what was printed."""
    console = Console(file=io.StringIO(), width=120)
    options = SearchOptions(out=folder.parent, gpus=0, **changes)
    run_search(reopen_search(read_run(folder), options, console), console)
    return read_run(folder), console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Run:
    result, _ = run_space(make_space(**SEQUENTIAL), tmp_path_factory.mktemp("undisturbed"))
    return read_run(result.run)


def kill_after(folder: Path, space: Path, *, num_ended: int) -> None:
    """Starts a search in a process of its own and kills it, with no warning, once so many trials have ended."""
    command = [sys.executable, "-m", "gcc_search", "--space", str(space), "--gpus", "0", "--out", str(folder.parent)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(1200):
        if len(list(folder.glob("trials/*/network.safetensors"))) >= num_ended:
            break
        assert process.poll() is None, "the search ended by itself"
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if child.name().startswith("ray::Implicit")]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Trials run in them, and they notice within seconds that their driver is gone; Ray's own agents take minutes.
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []


def test_a_killed_search_goes_on_and_ends_as_the_undisturbed_one(undisturbed, tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SEQUENTIAL))
    kill_after(tmp_path / "tiny", tmp_path / "space.yaml", num_ended=2)
    run, printed = resume(tmp_path / "tiny")
    assert "resumed: " in printed
    assert results_of(run) == results_of(undisturbed)
    study = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{run.folder}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


def test_a_search_that_has_ended_goes_on_with_more_trials_as_one_that_had_them_from_the_start(undisturbed, tmp_path):
    result, _ = run_space(make_space(**SEQUENTIAL | {"run_cap": 2}), tmp_path)
    first = results_of(read_run(result.run))
    run, printed = resume(result.run, run_cap=4)
    assert "resumed: 2 of 4 trials have ended, 0 go on, 2 have not begun" in printed
    assert results_of(run)[:2] == first
    assert results_of(run) == results_of(undisturbed)
    # From now on it has them, whoever resumes it.
    assert run.record.space["run_cap"] == 4
    assert "resumed: 4 of 4 trials have ended" in resume(result.run)[1]


@pytest.mark.parametrize(
    ("changes", "run_cap", "told"),
    [
        ({}, 3, "--run-cap: must be at least the 4 that the search has, got 3"),
        ({}, 100_001, "--run-cap: must be at most 100000, got 100001"),
        (
            {"method": "points", "run_cap": None, "points": [{"alpha": 1.0, "beta": 1.0}]},
            9,
            "--run-cap: must go with method bayes or random, got a search of method points, which lists its trials; "
            "start a new run",
        ),
    ],
)
def test_a_search_is_not_given_trials_that_it_cannot_have(undisturbed, changes, run_cap, told):
    space = make_space(**SEQUENTIAL | changes).model_dump(mode="json")
    run = replace(undisturbed, record=replace(undisturbed.record, space=space))
    with pytest.raises(SpaceError, match=f"^{re.escape(told)}$"):
        reopen_search(run, SearchOptions(out=run.folder.parent, gpus=0, run_cap=run_cap), Console(file=io.StringIO()))


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf")])
def test_hours_of_a_search_that_goes_on_are_a_time(undisturbed, hours):
    options = SearchOptions(out=undisturbed.folder.parent, gpus=0, max_hours=hours)
    with pytest.raises(SpaceError, match=f"^--max-hours: must be above 0, got {hours:g}$"):
        reopen_search(undisturbed, options, Console(file=io.StringIO()))


def test_hours_count_anew_when_a_search_goes_on_and_are_not_kept(undisturbed, tmp_path):
    result, _ = run_space(make_space(**SEQUENTIAL | {"run_cap": 1}), tmp_path)
    run, printed = resume(result.run, run_cap=4, max_hours=1e-9)
    assert "max_hours: nothing is started from now on that would not end within 1e-09 h" in printed
    assert (len(run.trials), run.record.space["max_hours"]) == (1, None)
    assert results_of(resume(result.run)[0]) == results_of(undisturbed)


def test_a_search_whose_ray_is_killed_says_so_and_is_resumed(tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SEQUENTIAL | {"run_cap": 40}))
    command = [sys.executable, "-m", "gcc_search", "--space", "space.yaml", "--gpus", "0", "--out", "."]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        while not (tmp_path / "tiny/trials/convnet_small-0000/trial.json").exists():
            assert process.poll() is None
            time.sleep(0.1)
        (server,) = (child for child in psutil.Process(process.pid).children() if "gcs_server" in child.name())
        server.kill()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == (
        "gcc-search: Ray: must stay up during a search, got its gcs_server killed; "
        "go on: gcc-search resume tiny --gpus 0\n"
    )
    reopen_search(read_run(tmp_path / "tiny"), SearchOptions(out=tmp_path, gpus=0), Console(file=io.StringIO()))


def test_a_finished_search_resumes_to_itself(undisturbed, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(undisturbed.folder, folder)
    before = {path: path.read_bytes() for path in folder.glob("*/*/*")}
    run, printed = resume(folder)
    assert "resumed: 4 of 4 trials have ended, 0 go on" in printed
    assert {path: path.read_bytes() for path in folder.glob("*/*/*")} == before
    assert results_of(run) == results_of(undisturbed)


def test_a_lost_study_and_a_torn_record_are_made_again(undisturbed, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(undisturbed.folder, folder)
    (folder / "study.db").write_bytes(b"torn")
    torn = folder / "trials/convnet_small-0003/trial.json"
    torn.write_bytes(torn.read_bytes()[:100])
    run, printed = resume(folder)
    assert "not used: " in printed
    assert "convnet_small-0003/trial.json: must be whole JSON" in printed
    assert results_of(run) == results_of(undisturbed)


def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path):
    with (
        only_driver(tmp_path),
        pytest.raises(GccSearchError, match=f"must have one search at a time, got another: pid {os.getpid()} on"),
        only_driver(tmp_path),
    ):
        pass


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "driver.lock").mkdir()
    with (
        pytest.raises(GccSearchError, match=r"driver\.lock: must be a file to write to, got: Is a directory"),
        only_driver(tmp_path),
    ):
        pass


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_nobody_is_kept_out(tmp_path, monkeypatch, reason):
    """As on some network file systems, of which there is none here."""

    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("gcc_search.search.lock.fcntl.flock", refuse)
    with only_driver(tmp_path):
        assert (tmp_path / "driver.lock").read_text().startswith(f"pid {os.getpid()} on ")


def test_other_images_than_before_are_refused(undisturbed, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(undisturbed.folder, folder)
    from gcc_search.results.files import read_json
    from gcc_search.results.writer import write_json

    content = read_json(folder / "run.json")
    content["space"]["data"]["data_seed"] = 1
    write_json(folder / "run.json", content)
    with pytest.raises(GccSearchError, match="images must be those it began with"):
        reopen_search(read_run(folder), SearchOptions(out=tmp_path, gpus=0), Console(file=io.StringIO()))


def test_a_run_and_its_images_that_both_moved_go_on_where_they_are_now(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            colour = (i * 20, 90, 120) if name == "cat" else (200, i * 20, 30)
            Image.new("RGB", (40, 40), colour).save(tmp_path / "images" / name / f"{i}.png")
    changes = {"weights": "none", "start": None, "data": {"name": "imagefolder", "root": str(tmp_path / "images")}}
    run_space(make_space(**changes, run_cap=1), tmp_path / "runs")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    moved = tmp_path / "archive" / "renamed"
    shutil.copytree(tmp_path / "runs" / "tiny", moved)
    shutil.rmtree(moved / "trials" / "convnet_small-0000")
    console = Console(file=io.StringIO(), width=120)

    options = SearchOptions(out=moved.parent, gpus=0)
    with pytest.raises(GccSearchError, match=f"{tmp_path}/images"):
        reopen_search(read_run(moved), options, console)

    options = SearchOptions(out=moved.parent, gpus=0, data_root=tmp_path / "elsewhere")
    run_search(reopen_search(read_run(moved), options, console), console)
    run = read_run(moved)
    assert [trial.record.status for trial in run.trials] == ["finished"]
    assert len(run.baselines) == 1
    assert run.record.space["data"]["root"] == str(tmp_path / "elsewhere")
    reopen_search(run, SearchOptions(out=moved.parent, gpus=0), console)


def test_trials_are_recalled_by_number_whatever_their_clocks_said(undisturbed, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(undisturbed.folder, folder)
    for number, trial in enumerate(read_run(folder).trials):
        backwards = f"20{60 - number}-01-01T00:00:00+00:00"
        write_trial(trial.folder, replace(trial.record, started=backwards, updated=backwards))
        os.utime(trial.folder / "trial.json", (1e9 - number, 1e9 - number))
    run, printed = resume(folder)
    assert "resumed: 4 of 4 trials have ended, 0 go on" in printed
    study = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{folder}/study.db")
    ids = [f"convnet_small-{number:04d}" for number in range(4)]
    assert [trial.user_attrs["trial_id"] for trial in study.trials] == ids
    assert [trial.params for trial in study.trials] == [trial.record.sampled for trial in run.trials]
