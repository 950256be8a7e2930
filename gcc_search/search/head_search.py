"""The actor that a Ray Client puts on a cluster's head: it starts a search there, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import ray

from gcc_search.search.addresses import THERE_VARIABLE
from gcc_search.search.frames import FRAMES_VARIABLE
from gcc_search.search.tether import BEAT, STOP

# What every head offers, and no other machine.
HEAD_RESOURCE = "node:__internal_head__"
READ_SECONDS = 1.0
READ_LINES = 1000
# Often enough to look alive; one who reads a log has it every 10 seconds.
FRAME_SECONDS = 2.0

# ("out" or "err", a line), ("exit", code); the code is None where nobody saw the search end.
Said = tuple[str, str | int | None]


class HeadSearch:
    """`gcc-search WORDS` in a folder that holds `files`; it is asked to end when this actor does.

    Args:
        files: contents by name.
    """

    def __init__(self, words: list[str], files: Mapping[str, bytes]) -> None:
        folder = tempfile.mkdtemp(prefix="gcc-search-client-")
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        python = [sys.executable, "-m"]
        environment = {
            THERE_VARIABLE: "1",
            FRAMES_VARIABLE: str(FRAME_SECONDS),
            "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
            "PYTHONUNBUFFERED": "1",
        }
        self._tether = subprocess.Popen(
            [*python, "gcc_search.search.tether", folder, *python, "gcc_search", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
        )
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def read(self) -> list[Said]:
        """What it has said since; waits a second for something. Who does not ask for a minute lets go of the search."""
        self._tell(BEAT)
        said: list[Said] = []
        with contextlib.suppress(queue.Empty):
            said.append(self._said.get(timeout=READ_SECONDS))
            while len(said) < READ_LINES:
                said.append(self._said.get_nowait())
        return said

    def stop(self) -> None:
        """As Ctrl-C; `read` tells how it ends."""
        self._tell(STOP)

    def _tell(self, what: bytes) -> None:
        assert self._tether.stdin is not None, "it was made with a pipe"
        # The search may have ended.
        with contextlib.suppress(OSError):
            self._tether.stdin.write(what)
            self._tether.stdin.flush()

    def _listen(self) -> None:
        assert self._tether.stdout is not None, "it was made with a pipe"
        for line in self._tether.stdout:
            name, value = json.loads(line)
            self._said.put((name, value))
        self._said.put(("exit", None))
