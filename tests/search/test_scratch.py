"""What killed searches leave below /tmp is removed by the next one, whatever other searches do there meanwhile."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from gcc_search.search import cluster


class SharedFolder:
    """/tmp, where another search removes a folder that has just been listed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def glob(self, pattern: str) -> Iterator[Path]:
        yield self._folder / "gcc-1-gone"
        yield from self._folder.glob(pattern)


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "scratch_parent", lambda: SharedFolder(tmp_path))
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    for name in (f"gcc-{dead.pid}-x", f"gcc-{os.getpid()}-x", "gcc-head-1"):
        (tmp_path / name).mkdir()
    cluster.remove_stale_scratch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"gcc-{os.getpid()}-x", "gcc-head-1"]
