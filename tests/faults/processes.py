"""Searches in processes of their own, found again by a mark in their environment, and killed without warning."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.search.conftest import ONE_AT_A_TIME, TINY

MARK = "GCC_SEARCH_FAULTS_MARK"

SPACE: dict[str, Any] = (
    TINY
    | ONE_AT_A_TIME
    | {
        "run_cap": 6,
        # Long enough to be killed in: an epoch takes most of a second.
        "data": {"name": "shapes", "num_images": 600},
    }
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one search lives: `folder` holds its space file, its run and what it prints."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def run(self) -> Path:
        return self.folder / SPACE["name"]

    @property
    def log(self) -> Path:
        return self.folder / "printed.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """`gcc-search --space` where nothing has begun, `gcc-search resume` where something has."""
        space = self.folder / "space.yaml"
        space.write_text(yaml.safe_dump(SPACE))
        fresh = ["--space", str(space), "--out", str(self.folder)]
        asked = ["resume", str(self.run)] if (self.run / "run.json").exists() else fresh
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "gcc_search", *asked, "--gpus", "0"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {MARK: self.mark},
            )

    def processes(self) -> list[psutil.Process]:
        """Every process that this search started, itself included, by the mark that they inherit."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self.mark]

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        return [process for process in self.processes() if _name_of(process).startswith("ray::Implicit")]

    def wait_for_silence(self, seconds: float) -> list[psutil.Process]:
        """The processes that are still there after so long."""
        until = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.2)
        return left


def kill(process: psutil.Process) -> None:
    """With no warning; one that has just ended by itself is dead as well."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        # Gone meanwhile, or somebody else's.
        return None


def _name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""
