"""Searches on a head that is reached through Ray Client: run to their end, stopped, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from gcc_search.results.reader import read_run
from tests.search.conftest import TINY
from tests.search.heads import free_port, running_head

COMMAND = (sys.executable, "-m", "gcc_search")
OF_ANOTHER_VERSION = (
    sys.executable,
    "-c",
    "import gcc_search; gcc_search.__version__ = '0.0.0'; from gcc_search.__main__ import main; main()",
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with running_head(tmp_path_factory.mktemp("head")) as ports:
        yield f"ray://127.0.0.1:{ports['ray-client-server-port']}"


def begin(address: str, folder: Path, *, command=COMMAND, token: str | None = None, **changes: object):
    """The process of a search whose space file is in `folder`, and its results under `folder`/runs."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(TINY | changes))
    words = ["--space", "mine.yaml", "--address", address, "--gpus", "0", "--out", str(folder / "runs")]
    environment = os.environ | ({} if token is None else {"RAY_AUTH_TOKEN": token})
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *words], cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment)


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
    assert [trial.record.status for trial in read_run(tmp_path / "runs/tiny").trials] == ["finished"] * 3


def test_ctrl_c_here_ends_it_there_in_an_orderly_way(address, tmp_path):
    process = begin(address, tmp_path, run_cap=1000)
    wait_for(tmp_path / "runs/tiny/trials/convnet_small-0000", process)
    process.send_signal(signal.SIGINT)
    printed, complaints = process.communicate(timeout=120)
    assert process.returncode == 130, complaints
    statuses = {trial.record.status for trial in read_run(tmp_path / "runs/tiny").trials}
    assert "running" not in statuses
    assert f"gcc-search resume {tmp_path}/runs/tiny" in printed
    assert f"--address {address}" in printed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"token": "of another cluster, and long enough"}, "must be a Ray cluster that knows this machine's token"),
        ({"command": OF_ANOTHER_VERSION}, "gcc-search on the cluster must be 0.0.0, as here, got "),
    ],
)
def test_who_does_not_belong_there_is_told_so_in_a_line(address, tmp_path, change, told):
    process = begin(address, tmp_path, **change)
    printed, complaints = process.communicate(timeout=120)
    assert (process.returncode, printed) == (1, "")
    assert told in complaints
    assert complaints.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_where_nothing_answers_it_is_a_line(tmp_path):
    address = f"ray://127.0.0.1:{free_port()}"
    process = begin(address, tmp_path)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"--address: must be a Ray cluster that answers, got {address}: 127.0.0.1" in complaints
    assert complaints.count("\n") == 1
