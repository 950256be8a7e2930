"""A search whose results go to a bucket: real Ray, a real S3 server, and a driver that may die anywhere."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import yaml
from rich.console import Console

from gcc_search.atomic import write_atomically
from gcc_search.errors import ResultsError, SpaceError, StorageError
from gcc_search.results.reader import Run, read_run
from gcc_search.search import bucket_lock
from gcc_search.search.bucket_run import fetch_run
from gcc_search.search.launch import run_search
from gcc_search.search.lock import only_driver
from gcc_search.search.origin import origin
from gcc_search.search.readiness import SearchOptions, prepare_search, reopen_search
from gcc_search.storage.mirror import local_folder, mirror_of
from tests.search.conftest import ONE_AT_A_TIME, TINY, make_space, results_of, run_space
from tests.storage.conftest import serve
from tests.storage.s3_server import BUCKET, S3Server

URL = f"s3://{BUCKET}/runs"
SEQUENTIAL = TINY | ONE_AT_A_TIME | {"run_cap": 2}


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """One for the file, there before Ray is: Ray's workers have the environment that it began with."""
    with serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def ray_that_knows_s3(s3, one_ray):
    """In this order."""


@pytest.fixture(scope="module")
def local(ray_that_knows_s3, tmp_path_factory) -> Run:
    """The search with its results on a disk."""
    result, _ = run_space(make_space(**SEQUENTIAL), tmp_path_factory.mktemp("local"))
    return read_run(result.run)


@pytest.fixture(scope="module")
def searched(ray_that_knows_s3, s3) -> tuple[Run, str]:
    """The same search with its results in the bucket: the run as it lies there, and what was printed."""
    with local_folder(URL) as out:
        result, printed = run_space(make_space(**SEQUENTIAL), out)
        assert result.exit_code == 0
    return stored(s3), printed


def stored(s3: S3Server, name: str = "tiny") -> Run:
    return read_run(s3.root / BUCKET / "runs" / name)


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def resume(url: str) -> str:
    """What is printed while the run is gone on with, in a new folder that mirrors it."""
    console = Console(file=io.StringIO(), width=120)
    with local_folder(url) as folder:
        fetch_run(folder)
        run_search(reopen_search(read_run(folder), SearchOptions(out=folder.parent, gpus=0), console), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_search_in_a_bucket_is_the_search_on_a_disk(searched, local):
    run, _ = searched
    assert results_of(run) == results_of(local)
    assert sorted(run.baselines) == sorted(local.baselines)
    lock = ["driver.lock"]
    assert names_in(run.folder) == [name for name in names_in(local.folder) if name not in lock]


def test_its_study_can_be_opened(searched):
    with sqlite3.connect(searched[0].folder / "study.db") as study:
        assert study.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone() == (2,)


def test_a_finished_search_resumes_to_itself_and_fetches_no_network_of_a_trial(searched, s3):
    run, _ = searched
    before = {path: path.read_bytes() for path in run.folder.glob("*/*/*")}
    s3.requests.clear()
    printed = resume(f"{URL}/tiny")
    assert "resumed: 2 of 2 trials have ended, 0 go on" in printed
    assert "damaged" not in printed
    assert {path: path.read_bytes() for path in run.folder.glob("*/*/*")} == before
    assert not any("/trials/" in name and name.endswith(".safetensors") for name in s3.fetched())


def test_a_baseline_of_a_run_beside_it_is_not_trained_again(searched, s3):
    with local_folder(URL) as out:
        result, _ = run_space(make_space(**(SEQUENTIAL | {"name": "beside", "run_cap": 1})), out)
        assert [outcome.job.is_trial for outcome in result.outcomes] == [True]
    beside = stored(s3, "beside")
    assert {key: found.record for key, found in beside.baselines.items()} == {
        key: found.record for key, found in searched[0].baselines.items()
    }
    assert names_in(beside.folder / "baselines") == names_in(searched[0].folder / "baselines")


def test_a_name_that_is_taken_is_refused_with_the_command_that_goes_on(searched):
    with pytest.raises(ResultsError) as caught, local_folder(URL) as out:
        run_space(make_space(**SEQUENTIAL), out)
    assert str(caught.value) == (
        f"{URL}/tiny: must be a new name, got one that exists; choose another with --name, or go on with it: "
        f"gcc-search resume {URL}/tiny --gpus 0"
    )


@pytest.mark.parametrize("left", ["trials/convnet_small-0000/trial.json", "baselines/k/epochs.parquet", "study.db"])
def test_what_is_left_of_a_run_without_its_record_is_not_taken_over(s3, left):
    path = s3.root / BUCKET / "half/tiny" / left
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"another search's")
    with pytest.raises(ResultsError) as caught, local_folder(f"s3://{BUCKET}/half") as out:
        prepare_search(make_space(), SearchOptions(out=out, gpus=0), Console(file=io.StringIO()))
    assert str(caught.value) == (
        f"s3://{BUCKET}/half/tiny: must be a new name, got a folder that exists; choose another with --name"
    )
    path.unlink()


def test_a_claim_alone_takes_no_name(s3):
    for name in ("driver.lock", "driver.lock.0123456789abcdef"):
        path = s3.root / BUCKET / "claimed/tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with local_folder(f"s3://{BUCKET}/claimed") as out:
        assert (
            prepare_search(make_space(), SearchOptions(out=out, gpus=0), Console(file=io.StringIO())).run
            == out / "tiny"
        )


def test_a_killed_search_goes_on_from_the_bucket_alone(local, s3, tmp_path):
    space, folder = tmp_path / "space.yaml", s3.root / BUCKET / "killed/tiny"
    space.write_text(yaml.safe_dump(SEQUENTIAL))
    url = f"s3://{BUCKET}/killed"
    command = [sys.executable, "-m", "gcc_search", "--space", str(space), "--gpus", "0", "--out", url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(2400):
        if list(folder.glob("trials/*/checkpoint/epoch-000001-*")):
            break
        assert process.poll() is None, "the search ended by itself"
        time.sleep(0.05)
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if "ray::" in child.name()]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs([child for child in workers if "Implicit" in child.name()], timeout=60)
    assert alive == []
    assert json.loads((folder / "driver.lock").read_text())["pid"] == process.pid
    printed = resume(f"{url}/tiny")
    assert "resumed: " in printed
    assert results_of(read_run(folder)) == results_of(local)
    assert not (folder / "driver.lock").exists()


def test_silence_that_no_sign_of_life_could_break_is_refused(s3):
    with local_folder(f"s3://{BUCKET}/silent") as out, pytest.raises(SpaceError) as caught:
        run_space(make_space(max_silent_minutes=1), out)
    assert str(caught.value).startswith("max_silent_minutes: must be at least 2 where results go to a bucket, got 1;")
    assert not (s3.root / BUCKET / "silent").exists()


def test_who_has_lost_its_run_leaves_the_others_claim(s3):
    path = s3.root / BUCKET / "runs/lost/driver.lock"
    with local_folder(URL) as out, only_driver(out / "lost"):
        theirs = json.loads(path.read_bytes()) | {"id": "another"}
        path.write_text(json.dumps(theirs))
    assert json.loads(path.read_bytes())["id"] == "another"


def test_a_second_driver_is_refused_and_told_of_the_first(s3, monkeypatch):
    with local_folder(URL) as one, local_folder(URL) as other:
        monkeypatch.setattr(socket, "gethostname", lambda: "node7")
        with only_driver(one / "locked"):
            monkeypatch.undo()
            told = rf"locked: must have one search at a time, got another: pid {os.getpid()} on node7 since 20"
            with pytest.raises(ResultsError, match=told), only_driver(other / "locked"):
                pass
        with only_driver(other / "locked"):
            assert (s3.root / BUCKET / "runs/locked/driver.lock").exists()
    assert not (s3.root / BUCKET / "runs/locked/driver.lock").exists()


@pytest.mark.parametrize(
    ("seconds_ago", "is_renewed", "is_refused"),
    # The process of that number began just now: it is the holder of the first claim alone.
    [(0, False, True), (3600, False, False), (3600, True, True)],
)
def test_another_process_under_the_number_of_a_dead_holder_holds_nothing(
    s3, monkeypatch, seconds_ago, is_renewed, is_refused
):
    monkeypatch.setattr(bucket_lock, "STALE_SECONDS", 60.0 if is_renewed else 0.0)
    since = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")
    with subprocess.Popen(["sleep", "60"]) as process, local_folder(URL) as out:
        claim = s3.root / BUCKET / "runs/reused/driver.lock"
        claim.parent.mkdir(parents=True, exist_ok=True)
        holder = {"id": "another", "pid": process.pid, "since": since} | origin()
        claim.write_text(json.dumps(holder))
        try:
            refusal = pytest.raises(ResultsError, match=f"got another: pid {process.pid} on ")
            with refusal if is_refused else contextlib.nullcontext(), only_driver(out / "reused"):
                assert json.loads(claim.read_text())["pid"] == os.getpid()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({}, False),
        # Another container of that name, where a number that is not here means nothing, nor does our own.
        ({"pids": "pid:[1]"}, True),
        ({"pids": "pid:[1]", "pid": os.getpid()}, True),
        ({"boot": "another"}, True),
        # As claims were that said neither.
        ({"pids": None, "boot": None}, True),
    ],
)
def test_a_number_that_is_gone_says_something_only_where_it_came_from(s3, changes, is_refused):
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    holder = {"id": "another", "pid": dead.pid, "since": datetime.now(UTC).isoformat()} | origin() | changes
    claim = s3.root / BUCKET / "runs/elsewhere/driver.lock"
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.write_text(json.dumps({name: value for name, value in holder.items() if value is not None}))
    refusal = pytest.raises(ResultsError, match="must have one search at a time, got another: pid ")
    with local_folder(URL) as out, refusal if is_refused else contextlib.nullcontext(), only_driver(out / "elsewhere"):
        pass


@pytest.mark.parametrize("content", [b"pid 12 on node7 since 2026-01-01T00:00:00+00:00", b"", b"{}", b"7"])
def test_the_lock_of_a_run_that_was_copied_from_a_disk_claims_nothing(s3, content):
    claim = s3.root / BUCKET / "runs/copied/driver.lock"
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.write_bytes(content)
    with local_folder(URL) as out, only_driver(out / "copied"):
        assert json.loads(claim.read_text())["pid"] == os.getpid()
    assert not claim.exists()


def test_a_driver_that_was_cut_off_loses_its_run_and_writes_nothing_more(s3, monkeypatch):
    monkeypatch.setattr(bucket_lock, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 3.0)
    with local_folder(URL) as one, local_folder(URL) as other:
        monkeypatch.setattr(socket, "gethostname", lambda: "node7")
        with only_driver(one / "cut"):
            time.sleep(1.1)
            monkeypatch.setattr(socket, "gethostname", lambda: "node8")
            with only_driver(other / "cut"):
                mirror = mirror_of(one)
                for _ in range(100):
                    if mirror.barred is not None:
                        break
                    time.sleep(0.1)
                with pytest.raises(StorageError, match=r"must have one search at a time, got another: .* on node8"):
                    write_atomically(one / "cut/run.json", b"{}")
                write_atomically(other / "cut/run.json", b"{}")


@pytest.fixture
def hasty(monkeypatch):
    """Claims are renewed so often that a test can wait for it."""
    monkeypatch.setattr(bucket_lock, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(bucket_lock, "SETTLE_SECONDS", 0.0)


def soon(condition) -> bool:
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(condition())


@pytest.mark.parametrize("error", [(403, "AccessDenied"), (400, "InvalidRequest"), (409, "OperationAborted")])
def test_a_claim_that_was_refused_once_is_renewed_again(s3, monkeypatch, hasty, error):
    monkeypatch.setattr(s3, "error", error)
    puts = f"PUT /{BUCKET}/runs/once/driver.lock"
    with local_folder(URL) as out, only_driver(out / "once"):
        s3.num_errors = 1
        assert soon(lambda: s3.num_errors == 0)
        s3.requests.clear()
        assert soon(lambda: s3.requests.count(puts) >= 2)
        assert mirror_of(out).barred is None


def test_a_claim_that_is_refused_for_long_bars_its_holder(s3, monkeypatch, hasty):
    monkeypatch.setattr(bucket_lock, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(s3, "error", (403, "AccessDenied"))
    with local_folder(URL) as out, only_driver(out / "refused"):
        s3.num_errors = 1000
        assert soon(lambda: mirror_of(out).barred is not None)
        s3.num_errors = 0
        told = rf"^{URL}/refused: claim must be renewed, got none for \d s, for .*: credentials must allow"
        with pytest.raises(StorageError, match=told):
            write_atomically(out / "refused/run.json", b"{}")


def test_a_driver_that_lost_its_run_hands_out_no_more_trials(ray_that_knows_s3, s3):
    folder = s3.root / BUCKET / "barred/tiny"

    def bar() -> None:
        soon(lambda: list(folder.glob("*/*/trial.json")))
        mirror.barred = "it is another's now"

    with local_folder(f"s3://{BUCKET}/barred") as out:
        mirror = mirror_of(out)
        thread = threading.Thread(target=bar)
        thread.start()
        with pytest.raises(StorageError, match=r"^it is another's now, then: gcc-search resume "):
            run_space(make_space(**SEQUENTIAL), out)
        thread.join()
    assert not list(folder.glob("trials/*"))


def test_a_search_survives_a_server_that_fails_now_and_then(local, s3, monkeypatch):
    count = itertools.count()
    monkeypatch.setattr(s3, "concerned", lambda line: next(count) % 5 == 0)
    s3.num_errors = 12
    with local_folder(f"s3://{BUCKET}/shaky") as out:
        result, _ = run_space(make_space(**SEQUENTIAL), out)
    assert result.exit_code == 0
    assert s3.num_errors == 0
    assert results_of(read_run(s3.root / BUCKET / "shaky/tiny")) == results_of(local)


def test_a_search_whose_bucket_is_lost_ends_in_one_line_with_the_command_that_goes_on(local, s3):
    url, folder = f"s3://{BUCKET}/lost", s3.root / BUCKET / "lost/tiny"

    def lose() -> None:
        for _ in range(2400):
            if list(folder.glob("trials/*/trial.json")):
                break
            time.sleep(0.05)
        s3.stop()

    thread = threading.Thread(target=lose)
    thread.start()
    with pytest.raises(StorageError) as caught, local_folder(url) as out:
        run_space(make_space(**SEQUENTIAL), out)
    thread.join()
    told = str(caught.value)
    assert told.startswith(f"s3://{BUCKET}: must answer, got: ")
    assert told.endswith(f", then: gcc-search resume {url}/tiny --gpus 0")
    with s3.running():
        s3.requests.clear()
        resume(f"{url}/tiny")
        assert results_of(read_run(folder)) == results_of(local)
