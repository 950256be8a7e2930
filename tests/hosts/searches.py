"""Searches handed in from the laptop, watched there, and looked at on the shared disk."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.hosts.launch import DASHBOARD, wait_until
from tests.hosts.machines import Host
from tests.search.conftest import TINY

END_SECONDS = 240.0
# One trial to a worker, which has as many cores as this machine; long enough to be caught in the middle.
SPACE: dict[str, Any] = TINY | {
    "data": {"name": "shapes", "num_images": 900},
    "recipe": {"epochs": 4, "lr": 0.01, "image_size": 32},
    "resources": {"cpus_per_trial": (psutil.cpu_count() or 1) / 2 + 0.5},
    "run_cap": 4,
}


@dataclass
class Search:
    """One search: its run on the shared disk, and what the laptop sees of it.

    Args:
        printed: by each command that trained for it, in files.
    """

    run: Path
    laptop: Host
    process: subprocess.Popen[str]
    printed: list[Path] = field(default_factory=list)

    @property
    def transcript(self) -> str:
        return "".join(path.read_text() for path in self.printed)

    @property
    def job(self) -> str:
        found = re.search(r"^submitted: (\S+);", self.transcript, re.MULTILINE)
        assert found, self.transcript
        return found[1]

    def wait(self, *, seconds: float = END_SECONDS) -> int:
        """Its exit code, as the laptop got it."""
        return self.process.wait(timeout=seconds)

    def wait_for_line(self, text: str, *, seconds: float = END_SECONDS) -> float:
        """Seconds until it stood in what was printed."""
        return wait_until(lambda: text in self.transcript or self._has_ended(), text, seconds=seconds)

    def wait_for_trial_on(self, *hosts: str) -> dict[str, Any]:
        """The record of a trial that trains on one of `hosts` and has a checkpoint, in the middle of its epochs."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            assert not self._has_ended(), f"no trial was caught on {hosts}: {self.transcript}"
            found[:] = [record for record in records(self.run) if _is_caught(record, hosts)]
            return bool(found)

        wait_until(look, f"a trial on {hosts}", seconds=END_SECONDS, pause=0.05)
        return found[0]

    def _has_ended(self) -> bool:
        return self.process.poll() is not None


def _is_caught(record: dict[str, Any], hosts: tuple[str, ...]) -> bool:
    is_under_way = record["status"] == "running" and 1 <= record["epochs_done"] < SPACE["recipe"]["epochs"] - 1
    return bool(record["role"] == "trial" and record["node"] in hosts and is_under_way)


def records(run: Path) -> Iterator[dict[str, Any]]:
    """What every trial.json says; they change whole."""
    for path in run.glob("*/*/trial.json"):
        yield json.loads(path.read_text())


def hand_in(laptop: Host, base: Path, name: str, *, out: Path | None = None, **changes: Any) -> Search:
    """`gcc-search submit` on the laptop, which follows; its transcript is kept."""
    space, printed = base / f"{name}.yaml", base / "printed" / f"{name}.txt"
    printed.parent.mkdir(exist_ok=True)
    space.write_text(yaml.safe_dump(SPACE | {"name": name} | changes))
    place = out or base / "shared" / "runs"
    words = ["submit", "--address", DASHBOARD, "--space", str(space), "--out", str(place), "--gpus", "0"]
    return Search(run=place / name, laptop=laptop, process=_start(laptop, printed, *words), printed=[printed])


def follow(search: Search, host: Host, printed: Path, *words: str) -> int:
    """The exit code of a command on `host` that goes on with `search`; what it prints is kept."""
    search.printed.append(printed)
    with printed.open("wb") as file:
        search.process = host.start(*words, stdout=file)
    return search.wait()


def _start(host: Host, printed: Path, *words: str) -> subprocess.Popen[str]:
    with printed.open("wb") as file:
        return host.start("gcc-search", *words, stdout=file)


def answers(laptop: Host, *words: str) -> str:
    """What `gcc-search WORDS` prints at the laptop."""
    return laptop.run("gcc-search", *words, "--address", DASHBOARD).stdout
