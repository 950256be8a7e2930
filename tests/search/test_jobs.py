"""Searches handed to a head that runs already: real Ray Jobs, followed, cut off, stopped."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from gcc_search.errors import ClusterError, SpaceError
from gcc_search.results.reader import read_run
from gcc_search.search.following import follow, print_list, print_logs, print_status, stop
from gcc_search.search.frames import read_frame, write_frame
from gcc_search.search.job_client import JobClient
from gcc_search.search.submission import make_submission, submit
from tests.search.conftest import ONE_AT_A_TIME, TINY
from tests.search.heads import running_head
from tests.search.relay import Relay

# Ray's client says it in aiohttp's old way.
pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The port of its dashboard."""
    with running_head(tmp_path_factory.mktemp("head")) as ports:
        yield ports["dashboard-port"]


@pytest.fixture
def client(head) -> JobClient:
    return JobClient(f"http://127.0.0.1:{head}")


def hand_in(client: JobClient, folder: Path, **changes: object) -> str:
    (folder / "mine.yaml").write_text(yaml.safe_dump(TINY | ONE_AT_A_TIME | changes))
    return submit(make_submission(folder / "mine.yaml", out=str(folder / "runs"), options={"gpus": 0}), client)


def printed_by(show, *given) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(*given, console)
    return console.file.getvalue()


def test_a_search_is_followed_to_its_end_through_a_connection_that_is_cut(head, client, tmp_path, monkeypatch):
    monkeypatch.setattr("gcc_search.search.following.RECONNECT_SECONDS", 0.2)
    relay = Relay(head)
    job = hand_in(client, tmp_path)
    cut = threading.Thread(target=lambda: (wait_for(tmp_path / "runs/tiny/trials/convnet_small-0000"), relay.cut()))
    cut.start()
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    assert follow(job, JobClient(f"http://127.0.0.1:{relay.port}"), console) == 0
    cut.join()
    relay.close()
    printed = console.file.getvalue()
    for number in range(3):
        assert printed.count(f"convnet_small-{number:04d}: finished, accuracy") == 1
    # The live table of the search, drawn here.
    assert "frontier" in printed
    assert [trial.record.status for trial in read_run(tmp_path / "runs/tiny").trials] == ["finished"] * 3
    logs = printed_by(print_logs, job, client)
    assert "3/3 trials" in logs
    assert "\x1e" not in logs


def wait_for(path: Path) -> None:
    until = time.monotonic() + 200
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.1)


def test_a_search_that_is_stopped_ends_as_by_ctrl_c(client, tmp_path):
    job = hand_in(client, tmp_path, run_cap=1000)
    wait_for(tmp_path / "runs/tiny/trials/convnet_small-0000")
    assert stop(job, client) == "STOPPED"
    statuses = {trial.record.status for trial in read_run(tmp_path / "runs/tiny").trials}
    assert "running" not in statuses
    assert "gcc-search resume" in printed_by(print_logs, job, client)
    assert follow(job, client, Console(file=io.StringIO())) == 130
    status = printed_by(print_status, job, client)
    assert f"job      {job}\nstatus   STOPPED" in status
    assert f"results  {tmp_path}/runs/tiny\n" in status
    assert f"{job}  STOPPED" in printed_by(print_list, client)


def test_a_client_of_another_version_is_refused(client, tmp_path, monkeypatch):
    monkeypatch.setattr("gcc_search.search.submission.__version__", "0.0.0")
    job = hand_in(client, tmp_path)
    console = Console(file=io.StringIO(), width=200)
    assert follow(job, client, console) == 1
    assert "gcc-search on the cluster must be 0.0.0, as where the search was submitted" in console.file.getvalue()
    assert not (tmp_path / "runs").exists()


def test_an_unknown_job_is_one_line(client):
    for ask in (lambda: client.info("nobody"), lambda: stop("nobody", client)):
        with pytest.raises(ClusterError, match="job: must be one of the cluster's, got one it does not know"):
            ask()


def test_another_token_is_refused(head, monkeypatch):
    command = [sys.executable, "-m", "gcc_search", "list", "--address", f"http://127.0.0.1:{head}"]
    environment = os.environ | {"RAY_AUTH_TOKEN": "of another cluster, and long enough"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1
    assert "must be a Ray cluster that knows this machine's token" in done.stderr
    assert done.stderr.count("\n") == 1


def test_where_nothing_answers_it_is_one_line():
    with pytest.raises(ClusterError, match=r"http://127.0.0.1:1 does not answer"):
        JobClient("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("out", "data_root", "told"),
    [
        ("runs", None, "--out: must be a whole path on the cluster, or a bucket, got runs; begin it with /"),
        ("s3://bucket/runs", "data", "--data-root: must be a whole path on the cluster, or a bucket, got data"),
    ],
)
def test_paths_of_this_machine_are_refused(tmp_path, out, data_root, told):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.raises(SpaceError) as error:
        make_submission(tmp_path / "mine.yaml", out=out, options={"data-root": data_root})
    assert str(error.value).startswith(told)


def test_what_is_given_here_is_given_there(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY))
    options = {"gpus": 8, "name": "mine", "data-root": "/data", "weights": None, "run-cap": 5, "seed": 0}
    made = make_submission(tmp_path / "mine.yaml", out="/runs/", options=options)
    assert " ".join(made.options) == "--out /runs/ --gpus 8 --name mine --data-root /data --run-cap 5 --seed 0"
    assert made.results == "/runs/mine"


def test_a_frame_is_a_line_that_is_no_other_line():
    table = "a \x1b[1mtable\x1b[0m\nof two lines"
    assert "\n" not in write_frame(table)
    assert read_frame(write_frame(table)) == table
    assert read_frame("0:06 convnet_small-0000: started") is None
    assert read_frame(write_frame(table)[:5]) == ""
