"""Runs a command, and asks it to end once who wanted it is gone: `python -m gcc_search.search.tether FOLDER COMMAND...`

Made for a Ray actor. Ray kills an actor whose client is gone, with its children and its process group, and a search
that is killed has recorded nothing. So this process leaves both first, and holds on to the actor by two pipes:

stdin    A byte now and then: it is still wanted. STOP, the pipe's end, or silence for SILENT_SECONDS: the command gets
         a SIGTERM, and END_SECONDS later, if it lives, a SIGKILL.
stdout   Lines of JSON: ["out" or "err", a line that the command printed]; the last is ["exit", its exit code].

FOLDER is where the command runs; it is removed afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import threading
from typing import IO

BEAT = b"."
STOP = b"!"
# Ray Client looks for a lost server for 30 seconds, in which we hear nothing.
SILENT_SECONDS = 60.0
# As for a search that is a Ray Job.
END_SECONDS = 30.0
# What the command has started may outlive it, and hold its pipes open.
LAST_LINES_SECONDS = 5.0


def hold(command: list[str], folder: str) -> None:
    """Runs `command` in `folder` to its end."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    threading.Thread(target=_end_when_let_go, args=(process,), daemon=True).start()
    pipes = (("out", process.stdout), ("err", process.stderr))
    readers = [threading.Thread(target=_pass_on, args=pair, daemon=True) for pair in pipes]
    for reader in readers:
        reader.start()
    code = process.wait()
    for reader in readers:
        reader.join(LAST_LINES_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    _tell("exit", code)


def _end_when_let_go(process: subprocess.Popen[str]) -> None:
    while select.select([0], [], [], SILENT_SECONDS)[0]:
        said = os.read(0, 1 << 10)
        if not said or STOP in said:
            break
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _pass_on(name: str, pipe: IO[str]) -> None:
    for line in pipe:
        _tell(name, line.rstrip("\n"))


_telling = threading.Lock()


def _tell(name: str, value: str | int) -> None:
    # Nobody may be there to hear it; the command's pipes are emptied all the same, or it could not end.
    with _telling, contextlib.suppress(OSError):
        left = json.dumps([name, value]).encode() + b"\n"
        while left:
            left = left[os.write(1, left) :]


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.setsid()
    hold(sys.argv[2:], sys.argv[1])
