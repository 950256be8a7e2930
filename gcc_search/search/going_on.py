"""How a search is ended by a user and gone on with, for those that only look on: Ray Tune takes a second to load."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import termios
from types import FrameType

from gcc_search.passwords import without_password

# What asks a search to end: Ctrl-C, a scheduler, a terminal that is closed.
ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> tuple[signal.Signals, ...]:
    """Of `ASKS`, what counts in this process: started with nohup, it is to outlive its terminal."""
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(ask for ask in ASKS if not (outlives and ask is signal.SIGHUP))


def hang_up() -> None:
    """Once a terminal was closed: what is said to it goes nowhere, and a second SIGHUP, as of the shell, is unheard."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for descriptor in (1, 2):
        if _is_hung_up(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def end_hung_up(number: int, frame: FrameType | None) -> None:
    """As a handler of SIGHUP: as Ctrl-C, to nobody."""
    hang_up()
    raise KeyboardInterrupt


def _is_hung_up(descriptor: int) -> bool:
    try:
        termios.tcgetattr(descriptor)
    except termios.error as error:
        # A file or a pipe is no terminal, and goes on.
        return bool(error.args[0] == errno.EIO)
    return False


def resume_command(run: str, *, gpus: int | None, storage: str | None, address: str | None) -> str:
    """What goes on with a search in `run`, a folder or a bucket's URL, with options of `gcc-search resume`.

    To be shown: a password of `storage` is left for the user to put in.
    """
    storage = None if storage is None else without_password(storage)
    chosen = {"--gpus": gpus, "--storage": storage, "--address": address}
    words = [word for name, value in chosen.items() if value is not None for word in (name, str(value))]
    return shlex.join(["gcc-search", "resume", run, *words])
