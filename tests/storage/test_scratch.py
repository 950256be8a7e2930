"""What killed searches leave below /tmp is removed by the next one, whatever other searches do there meanwhile."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from gcc_search.storage import scratch


class SharedFolder:
    """/tmp, where another search removes a folder that has just been listed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def glob(self, pattern: str) -> Iterator[Path]:
        yield self._folder / "gcc-1-gone"
        yield from self._folder.glob(pattern)


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "scratch_parent", lambda: SharedFolder(tmp_path))
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    for name in (f"gcc-{dead.pid}-x", f"gcc-{os.getpid()}-x", "gcc-head-1"):
        (tmp_path / name).mkdir()
    scratch.remove_stale_scratch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"gcc-{os.getpid()}-x", "gcc-head-1"]


def test_what_a_process_of_another_container_holds_is_kept_though_its_number_is_not_here(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "scratch_parent", lambda: tmp_path)
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    monkeypatch.setattr(scratch.os, "getpid", lambda: dead.pid)
    with scratch.scratch_folder() as folder:
        assert folder.name.startswith(f"gcc-{dead.pid}-")
        scratch.remove_stale_scratch()
        assert folder.exists()
    assert not folder.exists()


def test_a_link_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "scratch_parent", lambda: tmp_path)
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"gcc-{dead.pid}-x").symlink_to(tmp_path / "elsewhere")
    scratch.remove_stale_scratch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", f"gcc-{dead.pid}-x"]
