"""How a search ends whose disk Ray finds full: Ray itself, on a real file system of a few megabytes."""

from __future__ import annotations

import errno
import io
import subprocess
import tempfile
from pathlib import Path

import pytest
from ray import tune
from ray.tune import TuneError
from rich.console import Console

from gcc_search.errors import DiskError, DiskFullError, StorageError
from gcc_search.results.reader import read_run
from gcc_search.search import launch
from gcc_search.search.mishaps import mishap_in
from gcc_search.search.readiness import SearchOptions, prepare_search
from tests.search.conftest import make_space
from tests.test_patience import fill

SCRATCH = Path("/tmp")


@pytest.fixture
def small_scratch():
    """With a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir=SCRATCH))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"needs to mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def test_where_ray_finds_its_disk_full_the_search_ends_with_a_line(small_scratch, tmp_path, monkeypatch):
    def run_on_a_full_disk(*given, **named):
        fill(small_scratch)
        return run(*given, **named)

    run = tune.run
    monkeypatch.setattr("gcc_search.storage.scratch.scratch_parent", lambda: small_scratch)
    monkeypatch.setattr(launch, "scratch_parent", lambda: small_scratch)
    monkeypatch.setattr(launch.tune, "run", run_on_a_full_disk)
    console = Console(file=io.StringIO(), width=200)
    prepared = prepare_search(make_space(), SearchOptions(out=tmp_path, gpus=0), console)
    with pytest.raises(DiskFullError) as caught:
        launch.run_search(prepared, console)
    assert str(caught.value) == (
        f"{small_scratch}: disk must have room for Ray's own files, got none; delete something there, then: "
        f"gcc-search resume {tmp_path}/tiny --gpus 0"
    )
    assert read_run(tmp_path / "tiny").record.name == "tiny"


def wrapped(error: Exception) -> Exception:
    """As Ray does it."""
    try:
        try:
            raise error
        except Exception:
            raise TuneError("Traceback (most recent call last): ...")  # noqa: B904
    except TuneError as outer:
        return outer


@pytest.mark.parametrize(
    "error", [DiskError("trial.json: must be"), DiskFullError("runs: disk must"), StorageError("s3://b: must")]
)
def test_what_ray_has_wrapped_is_told_as_it_was(error):
    assert mishap_in(wrapped(error), SCRATCH) is error
    assert mishap_in(error, SCRATCH) is error


def test_other_failures_are_nobodys_disk():
    assert isinstance(mishap_in(wrapped(OSError(errno.EDQUOT, "Disk quota exceeded")), SCRATCH), DiskFullError)
    for error in (OSError(errno.ECONNRESET, "Connection reset by peer"), ConnectionError("GCS"), KeyError("loss")):
        assert mishap_in(error, SCRATCH) is None
        assert mishap_in(wrapped(error), SCRATCH) is None
