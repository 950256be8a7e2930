"""A search ends when it is asked to, even where Ray never returns: where its raylet dies, its start blocks in C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

import psutil

# An orderly end takes a few seconds; after this, none is coming.
GRACE_SECONDS = 12.0


@contextlib.contextmanager
def ends_when_asked(last_words: str, *, grace_seconds: float = GRACE_SECONDS) -> Iterator[None]:
    """Where the body has not ended `grace_seconds` after SIGINT or SIGTERM, prints `last_words` and ends the process.

    Python runs its own signal handlers between two lines of Python; the kernel writes to a wake-up file at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    over = threading.Event()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, over, last_words, grace_seconds), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writer)


def _watch(reader: int, over: threading.Event, last_words: str, grace_seconds: float) -> None:
    with os.fdopen(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM) and not over.wait(grace_seconds):
                _end(last_words)


def _end(last_words: str) -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    print(last_words, file=sys.stderr, flush=True)
    os._exit(130)
