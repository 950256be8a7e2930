"""`gs://` against a server of Google's interface on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gcc_search.cli import app
from gcc_search.errors import StorageError
from gcc_search.storage.bucket import Bucket
from gcc_search.storage.place import parse_place

_SERVER = """
import sys
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="results")
server.start()
print("up", flush=True)
"""


@pytest.fixture
def google():
    """The options that lead to it; its bucket `results` is empty. In another process: clients hold Python's lock."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-c", _SERVER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout.readline() == b"up\n"
        yield f"endpoint_override=127.0.0.1:{port}&scheme=http&anonymous=true"
        server.kill()


def test_what_is_written_is_read_listed_and_removed(google):
    bucket = Bucket(parse_place(f"gs://results/runs?{google}"))
    assert bucket.objects("runs") == {}
    assert bucket.read("runs/one/run.json") is None
    for content in (b"first", b"second, which replaces it"):
        bucket.write(content, "runs/one/run.json")
        assert bucket.read("runs/one/run.json") == content
    large = bytes(range(256)) * 20_000
    bucket.write(large, "runs/two/large.bin")
    assert bucket.read("runs/two/large.bin") == large
    assert {key: entry.size for key, entry in bucket.objects("runs").items()} == {
        "runs/one/run.json": 25,
        "runs/two/large.bin": len(large),
    }
    assert bucket.folders("runs") == ["one", "two"]
    assert bucket.look("runs/one/run.json").size == 25
    bucket.remove("runs/one/run.json")
    assert bucket.look("runs/one/run.json") is None
    bucket.remove("runs/one/run.json")
    bucket.remove_all("runs/two")
    assert bucket.objects("runs") == {}


def test_a_bucket_that_is_not_there_is_told(google):
    with pytest.raises(StorageError, match="gs://nowhere: bucket must exist, got NOT_FOUND"):
        Bucket(parse_place(f"gs://nowhere/runs?{google}")).write(b"x", "runs/x")


def test_a_run_is_analysed_where_it_lies(google, tiny_search, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bucket = Bucket(parse_place(f"gs://results/runs?{google}"))
    run = tiny_search[0].run
    for path in run.rglob("*"):
        if path.is_file():
            bucket.write(path.read_bytes(), f"runs/tiny/{path.relative_to(run)}")
    done = CliRunner().invoke(app, ["analyze", f"gs://results/runs/tiny?{google}"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    table = (tmp_path / "analysis-tiny/table1.csv").read_text()
    shutil.copytree(run, tmp_path / "tiny")
    done = CliRunner().invoke(app, ["analyze", "tiny"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "tiny/analysis/table1.csv").read_text() == table
