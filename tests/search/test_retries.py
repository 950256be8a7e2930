"""Trials whose workers are killed, hang, or run out of memory go on; real workers, real signals."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest
import torch
from rich.console import Console

from gcc_search.cores import usable_cores
from gcc_search.occupancy import only_writer
from gcc_search.results.reader import read_run
from gcc_search.results.writer import write_trial
from gcc_search.search.jobs import JobMaker
from gcc_search.search.launch import SearchResult, run_search
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.search.retries import again, goes_on
from gcc_search.search.summary import print_summary, to_json
from gcc_search.search.trainable import train_job
from gcc_search.space import SearchSpace
from gcc_search.training.loop import train_epoch
from tests.search.conftest import ONE_AT_A_TIME, make_space
from tests.search.test_study import make_record

pytestmark = pytest.mark.usefixtures("one_ray")

# One at a time, without baselines before it: its first worker is the trial's.
ONE_TRIAL = {
    "weights": "none",
    "start": None,
    "method": "points",
    "points": [{"alpha": 1.0, "beta": 1.0}],
    "parameters": {"alpha": {"value": 1.0}, "beta": {"value": 1.0}},
    "run_cap": None,
    "recipe": {"epochs": 3, "lr": 0.01, "image_size": 32},
    **ONE_AT_A_TIME,
}
OPEN = {"alpha": {"distribution": "log_uniform_values", "min": 0.01, "max": 100}, "beta": {"value": 1.0}}
TWO_POINTS = {"points": [{"alpha": 1.0, "beta": 1.0}, {"alpha": 2.0, "beta": 1.0}], "parameters": OPEN}
# Below what a space file may say: tests do not wait for minutes.
IMPATIENT = {"max_silent_minutes": 0.15}


def search(space: SearchSpace, out: Path, *, job=train_job, meanwhile: Callable[[Path], None] | None = None):
    """The search's result and what it printed; `meanwhile` runs beside it."""
    console = Console(file=io.StringIO(), width=200)
    prepared = prepare_search(space, SearchOptions(out=out, gpus=0), console)
    thread = threading.Thread(target=meanwhile or (lambda run: None), args=(prepared.run,), daemon=True)
    thread.start()
    result = run_search(prepared, console, job=job)
    thread.join(timeout=10)
    assert not thread.is_alive()
    return result, console.file.getvalue()


def workers() -> list[psutil.Process]:
    """Of this process's Ray: the raylet starts them in sessions of their own."""
    return [
        child for child in psutil.Process().children(recursive=True) if child.name().startswith("ray::ImplicitFunc")
    ]


def record_of(run: Path, trial_id: str = "convnet_small-0000") -> dict[str, object]:
    path = run / "trials" / trial_id / "trial.json"
    return json.loads(path.read_text()) if path.exists() else {}


def wait_until(holds: Callable[[], object], seconds: float = 250) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def kill_workers() -> None:
    for worker in workers():
        os.kill(worker.pid, signal.SIGKILL)


def kill_in_epoch_2(run: Path) -> None:
    wait_until(lambda: record_of(run).get("epochs_done") == 1)
    kill_workers()


def make_job():
    *_, job = JobMaker(space=make_space(), fingerprints={32: "images"}).jobs_of("convnet_small", "t", {})
    return job


def rows_of(result: SearchResult) -> list[dict[str, object]]:
    timing = ("train_seconds", "evaluation_seconds", "peak_memory_bytes")
    return read_run(result.run).trials[0].epochs().drop_columns(timing).to_pylist()


def status_of(result: SearchResult) -> str:
    """How one trial of so few epochs ends, finished or collapsed, is its network's matter."""
    return read_run(result.run).trials[0].record.status


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    result, _ = search(make_space(**ONE_TRIAL), tmp_path_factory.mktemp("undisturbed"))
    return result


def test_a_trial_whose_worker_is_killed_goes_on_from_its_checkpoint_and_is_told_once(undisturbed, tmp_path, capfd):
    result, printed = search(make_space(**ONE_TRIAL), tmp_path, meanwhile=kill_in_epoch_2)
    record = read_run(result.run).trials[0].record
    assert (record.status, record.attempts, record.failures) == (status_of(undisturbed), 2, ["crash"])
    assert rows_of(result) == rows_of(undisturbed)
    assert "its worker died (killed, or crashed); tried again, failure 1 of at most 3" in printed
    assert "convnet_small-0000: started with alpha 1 beta 1, try 2" in printed
    study = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{result.run}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]
    assert result.exit_code == 0
    # Ray's own words about it, which would spoil what --format json prints.
    assert capfd.readouterr() == ("", "")


def test_a_torn_checkpoint_is_told_and_the_one_before_is_used(undisturbed, tmp_path):
    def kill_and_tear(run: Path) -> None:
        folder = run / "trials" / "convnet_small-0000" / "checkpoint"
        wait_until(lambda: list(folder.glob("epoch-000002-*")))
        kill_workers()
        for path in folder.glob("epoch-000002-*"):
            path.write_bytes(path.read_bytes()[:1000])

    result, printed = search(make_space(**ONE_TRIAL), tmp_path, meanwhile=kill_and_tear)
    assert "convnet_small-0000: not used: " in printed
    assert "is torn or unreadable; goes on from the one after epoch 1" in printed
    assert rows_of(result) == rows_of(undisturbed)


def lose_the_disk_at_first(config, **surroundings) -> None:
    """Once its first attempt has trained an epoch, the system refuses each byte that this worker writes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def train(*given, **named):
        trained = train_epoch(*given, **named)
        if not config["failures"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        return trained

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gcc_search.trial.train_epoch", train)
        try:
            train_job(config, **surroundings)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_trial_whose_disk_fails_for_its_record_too_is_tried_again_and_never_told_as_stopped(undisturbed, tmp_path):
    result, printed = search(make_space(**ONE_TRIAL), tmp_path, job=lose_the_disk_at_first)
    record = read_run(result.run).trials[0].record
    assert (record.status, record.attempts, record.failures) == (status_of(undisturbed), 2, ["crash"])
    assert rows_of(result) == rows_of(undisturbed)
    told = r"0000/\S+: must be writable, got: File too large; .*; tried again, failure 1 of at most 3"
    assert re.search(told, printed)
    study = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{result.run}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]


def find_other_images(config, *, fingerprints, **surroundings) -> None:
    """As on a machine that has other images, for the first attempt at trial 0000."""
    if config["id"].endswith("0000") and not config["failures"]:
        fingerprints = dict.fromkeys(fingerprints, "others")
    train_job(config, fingerprints=fingerprints, **surroundings)


def test_a_trial_that_comes_to_a_machine_with_other_images_is_tried_again(tmp_path):
    result, printed = search(make_space(**ONE_TRIAL), tmp_path, job=find_other_images)
    record = read_run(result.run).trials[0].record
    assert (record.status, record.attempts, record.failures) == (status_of(result), 2, ["crash"])
    assert record.status in ("finished", "collapsed")
    assert (
        f"convnet_small-0000: DataError: {record.node}: images of shapes must be those the search began with, got "
        "others; copy them there, then resume; tried again, failure 1 of at most 3"
    ) in printed
    assert result.exit_code == 0


def find_no_weights(config, **surroundings) -> None:
    """As on a machine without the weights, for trials."""
    if config["role"] == "trial":
        settings = json.loads(config["settings"]) | {"weights": "/nowhere.pth"}
        config = config | {"settings": json.dumps(settings)}
    train_job(config, **surroundings)


def test_a_machine_without_the_weights_does_not_use_up_all_trials(tmp_path):
    points = [{"alpha": float(alpha), "beta": 1.0} for alpha in range(1, 9)]
    space = make_space(**ONE_TRIAL | {"points": points, "parameters": OPEN})
    result, printed = search(space, tmp_path, job=find_no_weights)
    records = [trial.record for trial in read_run(result.run).trials]
    # Three attempts more for each of two, and two for the third, which goes on.
    ends = [(record.status, record.attempts) for record in records]
    assert ends == [("failed", 4), ("failed", 4), ("interrupted", 2)]
    assert (
        f"no more trials are started: the last 10 attempts failed by their machine ({records[0].node}: WeightsError: "
        "weights: /nowhere.pth: must be a file"
    ) in printed
    assert (result.gave_up, result.exit_code) == (True, 2)


def die_if_first(config, **surroundings) -> None:
    """The trial 0000 kills its own worker, each time."""
    if config["id"].endswith("0000"):
        os.kill(os.getpid(), signal.SIGKILL)
    train_job(config, **surroundings)


def test_a_trial_that_dies_each_time_fails_in_the_end_and_the_others_are_trained(tmp_path):
    space = make_space(**ONE_TRIAL | TWO_POINTS, max_trial_failures=1)
    result, _ = search(space, tmp_path, job=die_if_first)
    first, second = (trial.record for trial in read_run(result.run).trials)
    assert (first.status, first.attempts, first.failures) == ("failed", 2, ["crash", "crash"])
    assert first.reason.startswith("its worker died (killed, or crashed)")
    assert second.status in ("finished", "collapsed")
    assert result.exit_code == 2
    study = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{result.run}/study.db")
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    summary = io.StringIO()
    print_summary(result, Console(file=summary, width=200))
    assert "failed: convnet_small-0000 (attempts: 2): its worker died (killed, or crashed)" in summary.getvalue()
    assert json.loads(to_json(result))["failed"] == [
        {"id": "convnet_small-0000", "role": "trial", "attempts": 2, "reason": first.reason}
    ]


def test_after_so_many_failed_trials_no_more_are_started(tmp_path):
    space = make_space(**ONE_TRIAL | TWO_POINTS, max_trial_failures=0, max_failed_trials=1)
    result, printed = search(space, tmp_path, job=die_if_first)
    assert [trial.record.status for trial in read_run(result.run).trials] == ["failed"]
    assert "no more trials are started: 1 failed (max_failed_trials)" in printed
    assert (result.gave_up, result.exit_code) == (True, 2)


def wait_for_a_second(config, **surroundings) -> None:
    """Not for two minutes, where another process writes to the trial's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gcc_search.occupancy.PATIENCE_SECONDS", 1.0)
        train_job(config, **surroundings)


def test_a_trial_whose_folder_is_held_by_a_worker_that_was_given_up_is_tried_again_and_keeps_count(tmp_path):
    """As one on a machine that is cut off, and shares the disk."""

    def hold_until_two_have_failed(run: Path) -> None:
        wait_until(lambda: (run / "run.json").exists())
        with only_writer(run / "trials/convnet_small-0000"):
            for _ in range(2):
                wait_until(workers)
                (worker,) = workers()
                wait_until(lambda pid=worker.pid: not psutil.pid_exists(pid))

    result, printed = search(
        make_space(**ONE_TRIAL), tmp_path, job=wait_for_a_second, meanwhile=hold_until_two_have_failed
    )
    record = read_run(result.run).trials[0].record
    assert (record.status, record.attempts, record.failures) == (status_of(result), 3, ["crash", "crash"])
    assert record.status in ("finished", "collapsed")
    assert "must have one writer at a time, got another process" in printed
    assert "; tried again, failure 2 of at most 3" in printed


def test_a_trial_that_is_given_up_and_held_to_the_end_is_not_left_running(tmp_path):
    held = contextlib.ExitStack()

    def hold(run: Path) -> None:
        wait_until(lambda: (run / "run.json").exists())
        folder = run / "trials/convnet_small-0000"
        held.enter_context(only_writer(folder))
        settings = space.settings("convnet_small", {"alpha": 1.0, "beta": 1.0}).model_dump(mode="json")
        write_trial(folder, replace(make_record(status="running"), settings=settings))

    space = make_space(**ONE_TRIAL, max_trial_failures=0)
    with held:
        result, _ = search(space, tmp_path, job=wait_for_a_second, meanwhile=hold)
    assert [outcome.record.failures for outcome in result.failed] == [["crash"]]
    assert record_of(result.run)["status"] == "failed"


def num_workers_beside_this_one() -> int:
    raylet, own = psutil.Process().parent(), os.getpid()
    assert raylet is not None
    names = [child.name() for child in raylet.children() if child.pid != own]
    return sum(name.startswith("ray::ImplicitFunc") for name in names)


def run_short_of_memory(config, *, run, **surroundings) -> None:
    """The first attempt of trial 0000 asks for a petabyte, once the other one has begun; the second is to be alone."""

    def ask_for_a_petabyte(*_, **__):
        wait_until(lambda: record_of(Path(run), "convnet_small-0001"))
        torch.empty(1 << 50, dtype=torch.uint8)

    with pytest.MonkeyPatch.context() as patch:
        if config["id"].endswith("0000") and not config["failures"]:
            patch.setattr("gcc_search.trial.train_epoch", ask_for_a_petabyte)
        if config["failures"]:
            # A process that only waits for its next trial would hold memory of the device, too.
            wait_until(lambda: num_workers_beside_this_one() == 0, seconds=60)
        train_job(config, run=run, **surroundings)


def test_a_trial_that_runs_out_of_memory_is_tried_again_alone(tmp_path):
    space = make_space(**ONE_TRIAL | TWO_POINTS | {"resources": {"cpus_per_trial": usable_cores() / 2}})
    result, printed = search(space, tmp_path, job=run_short_of_memory)
    first, second = (trial.record for trial in read_run(result.run).trials)
    assert (first.attempts, first.failures) == (2, ["memory"])
    assert {first.status, second.status} <= {"finished", "collapsed"}
    assert "0000: out of memory (" in printed
    assert "; tried again with nothing beside it" in printed
    # Whatever was under way had ended when the second attempt began, and nothing began beside it.
    again = printed.index("0000: started with alpha 1 beta 1, try 2")
    begun = {name for name in re.findall(r"(\S+): started", printed[:again]) if not name.endswith("0000")}
    assert begun <= set(re.findall(r"(\S+): (?:finished|collapsed)", printed[:again]))
    beside = printed[again : printed.index("0000: ", again + 1)]
    assert ": started" not in beside.partition("\n")[2]


def test_a_worker_that_stops_answering_is_ended_and_its_trial_goes_on(undisturbed, tmp_path):
    stopped = []

    def freeze(run: Path) -> None:
        wait_until(lambda: record_of(run).get("epochs_done") == 1)
        stopped.extend(workers())
        for worker in stopped:
            os.kill(worker.pid, signal.SIGSTOP)

    result, printed = search(make_space(**ONE_TRIAL).model_copy(update=IMPATIENT), tmp_path, meanwhile=freeze)
    record = read_run(result.run).trials[0].record
    assert (record.status, record.attempts, record.failures) == (status_of(undisturbed), 2, ["crash"])
    assert "its worker gave no sign of life for 0.15 minutes and was ended; tried again" in printed
    assert rows_of(result) == rows_of(undisturbed)
    assert not [worker for worker in stopped if worker.is_running() and worker.status() == psutil.STATUS_STOPPED]


def never_return(config, **surroundings) -> None:
    """A trial that is stopped early unwinds for an hour."""
    try:
        train_job(config, **surroundings)
    except SystemExit:
        time.sleep(3600)


def test_trials_that_never_return_after_they_were_stopped_give_their_slot_back(tmp_path):
    points = [{"alpha": alpha, "beta": 1.0} for alpha in (0.1, 1.0, 10.0, 100.0)]
    early = {"type": "asha", "metric": "gini", "min_epochs": 1, "eta": 4}
    space = make_space(**ONE_TRIAL | {"points": points, "early_terminate": early, "parameters": OPEN})
    result, _ = search(space.model_copy(update=IMPATIENT), tmp_path, job=never_return)
    records = [trial.record for trial in read_run(result.run).trials]
    assert "stopped" in {record.status for record in records}
    assert {record.status for record in records} <= {"finished", "collapsed", "stopped"}
    assert len(records) == 4
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([], False),
        (["error"], False),
        (["crash"], True),
        (["crash"] * 3, True),
        (["crash"] * 4, False),
        (["memory"], True),
        (["memory", "memory"], False),
        (["crash", "memory"], True),
        (["memory", "crash"], True),
        (["memory", "error"], False),
    ],
)
def test_who_is_tried_again(failures, expected):
    record = replace(make_record(status="failed"), failures=failures)
    assert goes_on(record, make_space()) is expected
    assert not goes_on(replace(record, status="finished"), make_space())


def test_once_memory_was_short_a_job_runs_alone():
    job, record = make_job(), make_record(status="failed")
    assert not again(job, replace(record, failures=["crash"])).alone
    assert again(job, replace(record, failures=["memory", "crash"])).alone
