"""Searches on a head that is reached through Ray Client: run to their end, stopped, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import grpc
import psutil
import pytest
import yaml

from gcc_search.errors import GccSearchError, SpaceError
from gcc_search.results.reader import read_run
from gcc_search.search.ray_client import connected, threads_unsaid
from gcc_search.search.remote import search_remotely
from tests.search.conftest import ONE_AT_A_TIME, TINY
from tests.search.heads import free_port, running_head
from tests.search.relay import Relay

COMMAND = (sys.executable, "-m", "gcc_search")
OTHER_TOKEN = {"RAY_AUTH_TOKEN": "of another cluster, and long enough"}
NO_TOKEN = {"HOME": "/nowhere", "RAY_AUTH_TOKEN": ""}


def of(change: str) -> tuple[str, ...]:
    """gcc-search where something else is installed."""
    return (
        sys.executable,
        "-c",
        f"import sys, gcc_search.search, ray; {change}; from gcc_search.cli import main; main()",
    )


def test_threads_of_ray_and_grpc_say_nothing_and_others_do(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    with threads_unsaid():
        for work in (lambda: grpc.ssl_channel_credentials(5), lambda: 1 / 0):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert told == [ZeroDivisionError]


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    with running_head(tmp_path_factory.mktemp("head")) as ports:
        yield ports


@pytest.fixture(scope="module")
def address(ports):
    return f"ray://127.0.0.1:{ports['ray-client-server-port']}"


def begin(
    address: str, folder: Path, *more: str, command=COMMAND, environment: dict[str, str] | None = None, run_cap: int = 3
):
    """The process of a search whose space file is in `folder`, and its results under `folder`/runs."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(TINY | ONE_AT_A_TIME | {"run_cap": run_cap}))
    words = ["--space", "mine.yaml", "--address", address, "--gpus", "0", "--out", str(folder / "runs"), *more]
    return start(*command, *words, folder=folder, environment=environment)


def start(*words: str, folder: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=os.environ | (environment or {})
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 200
    while not path.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert path.exists()


def test_a_search_there_is_seen_here_to_its_end(address, tmp_path):
    process = begin(address, tmp_path)
    printed, complaints = process.communicate(timeout=300)
    assert (process.returncode, complaints) == (0, "")
    for number in range(3):
        assert printed.count(f"convnet_small-{number:04d}: finished, accuracy") == 1
    assert f"results: {tmp_path}/runs/tiny\n" in printed
    assert "\x1e" not in printed
    run = read_run(tmp_path / "runs/tiny")
    assert [trial.record.status for trial in run.trials] == ["finished"] * 3
    assert run.record.command.startswith(f"gcc-search --space mine.yaml --address {address} --out ")

    again = start(*COMMAND, "resume", str(run.folder), "--address", address, "--format", "json", folder=tmp_path)
    printed, complaints = again.communicate(timeout=300)
    assert (again.returncode, json.loads(printed)["trials"]["finished"]) == (0, 3), complaints
    assert "resumed: 3 of 3 trials have ended" in complaints


def test_ctrl_c_here_ends_it_there_in_an_orderly_way(address, tmp_path):
    process = begin(address, tmp_path, run_cap=1000)
    wait_for(tmp_path / "runs/tiny/trials/convnet_small-0000", process)
    process.send_signal(signal.SIGINT)
    printed, complaints = process.communicate(timeout=120)
    assert process.returncode == 130, complaints
    statuses = {trial.record.status for trial in read_run(tmp_path / "runs/tiny").trials}
    assert "running" not in statuses
    assert f"go on:   gcc-search resume {tmp_path}/runs/tiny --gpus 0 --address {address}\n" in printed


def test_a_connection_that_is_lost_for_good_ends_it_there_in_an_orderly_way(ports, tmp_path):
    relay = Relay(ports["ray-client-server-port"])
    address = f"ray://127.0.0.1:{relay.port}"
    process = begin(address, tmp_path, environment={"RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"}, run_cap=1000)
    wait_for(tmp_path / "runs/tiny/trials/convnet_small-0000", process)
    relay.close()
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"gcc-search: --address: {address}: connection lost" in complaints
    assert f"go on: gcc-search resume {tmp_path}/runs/tiny --gpus 0 --address {address}" in complaints
    assert complaints.count("\n") == 1
    until = time.monotonic() + 90
    while running_there(tmp_path):
        assert time.monotonic() < until
        time.sleep(0.2)
    statuses = {trial.record.status for trial in read_run(tmp_path / "runs/tiny").trials}
    assert statuses <= {"finished", "stopped", "interrupted"}


def running_there(folder: Path) -> list[int]:
    """Processes of a search into `folder`, and what holds it."""
    found = psutil.process_iter(["pid", "cmdline"])
    return [item.pid for item in found if str(folder / "runs") in (item.info["cmdline"] or ())]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"environment": OTHER_TOKEN}, "must be a Ray cluster that knows this machine's token, got one with another"),
        ({"environment": NO_TOKEN}, "must be a Ray cluster that knows this machine's token, got none"),
        ({"command": of("gcc_search.__version__ = '0.0.0'")}, "gcc-search on the cluster must be 0.0.0, as here, got "),
        ({"command": of("ray.__version__ = '2.0.0'")}, f"Ray: {version('ray')}, Python: "),
    ],
)
def test_who_does_not_belong_there_is_told_so_in_a_line(address, tmp_path, change, told):
    process = begin(address, tmp_path, **change)
    printed, complaints = process.communicate(timeout=120)
    assert (process.returncode, printed) == (1, "")
    assert told in complaints
    assert complaints.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("port", "told"), [("port", "no Ray Client server answers"), (None, "Connection refused")])
def test_where_no_ray_client_server_answers_it_is_a_line(ports, port, told):
    address = f"ray://127.0.0.1:{ports[port] if port else free_port()}"
    assert refused(address).startswith(f"--address: must be a Ray cluster that answers, got {address}: ")
    assert told in refused(address)


def test_without_grpc_it_is_a_line_that_says_what_to_install(address, monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert refused(address) == "--address: must have Ray Client for ray://, got none; pip install 'gcc-search[cluster]'"


def refused(address: str) -> str:
    with pytest.raises(GccSearchError) as error, connected(address):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("out", "storage", "told"),
    [
        ("runs", None, "--out: must be a whole path on the cluster, or a bucket, got runs"),
        ("/runs", "sqlite:///a.db", "--storage: must be a whole path on the cluster, got sqlite:///a.db"),
    ],
)
def test_paths_of_this_machine_are_refused_before_anybody_is_asked(tmp_path, out, storage, told):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY))
    options = {"gpus": None, "storage": storage, "format": "text"}
    with pytest.raises(SpaceError) as error:
        search_remotely(tmp_path / "mine.yaml", address="ray://127.0.0.1:1", out=out, options=options)
    assert str(error.value).startswith(told)
