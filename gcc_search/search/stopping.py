"""A search ends when it is asked to, once, wherever it is just then.

Python runs a signal's handler between two lines of whatever is at work. Where that is a destructor, what runs at a fork
or a callback from Ray's C code, the KeyboardInterrupt ends there: `heeds_signals` raises it again at Tune's next step.
Where Ray blocks in C for good, as when its raylet died, no handler runs at all: `ends_when_asked` ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import psutil
from ray.tune import Callback

from gcc_search.search.going_on import ASKS, hang_up, heeded

# An orderly end takes a few seconds; after this, none is coming.
GRACE_SECONDS = 12.0
# Ray ends its driver, without a word of use, 14 seconds after its raylet died and 60 after its gcs_server did.
LOST_SECONDS = 4.0
LOOK_SECONDS = 1.0


class StopReminder(Callback):
    """Ray tells it of each step; once a stop was asked for, the next step is the last."""

    def __init__(self) -> None:
        self.is_asked = False
        self._is_patient = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """As a signal handler."""
        self.is_asked = True
        if number == signal.SIGHUP:
            hang_up()
        if not self._is_patient:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def afterwards(self) -> Iterator[None]:
        """Within, a stop is noted; it is raised when the body has ended. For a body that must not be broken off."""
        self._is_patient = True
        try:
            yield
        finally:
            self._is_patient = False
        if self.is_asked:
            raise KeyboardInterrupt

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.is_asked:
            raise KeyboardInterrupt


@contextlib.contextmanager
def heeds_signals() -> Iterator[StopReminder]:
    """What asks for an end raises KeyboardInterrupt in the body, and the reminder knows of it. Yields the reminder."""
    reminder, told = StopReminder(), sys.unraisablehook

    def tell(unraisable: sys.UnraisableHookArgs) -> None:
        if not (reminder.is_asked and issubclass(unraisable.exc_type, KeyboardInterrupt)):
            told(unraisable)

    # Only the main thread may set handlers, and only there are they run.
    numbers = heeded() if _in_main_thread() else ()
    before = {number: signal.signal(number, reminder.ask) for number in numbers}
    sys.unraisablehook = tell
    try:
        yield reminder
    finally:
        sys.unraisablehook = told
        for number, handler in before.items():
            # After `hang_up` it stays unheard: a second one would break off the orderly end.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


@contextlib.contextmanager
def ends_when_asked(last_words: str, *, grace_seconds: float = GRACE_SECONDS) -> Iterator[None]:
    """Where the body has not ended `grace_seconds` after it was asked to, prints `last_words` and ends the process.

    The kernel writes a signal's number to the wake-up file at once, whatever Python is doing.
    """
    if not _in_main_thread():
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


@contextlib.contextmanager
def ends_when_lost(
    find_lost: Callable[[], str | None], last_words: str, *, grace_seconds: float = LOST_SECONDS
) -> Iterator[None]:
    """Where something is lost that the body cannot do without, and it still goes on `grace_seconds` later: ends it.

    It waits in C then, for what will not come back. `last_words` has a {} for the name of what is lost.
    """
    over = threading.Event()
    watch = threading.Thread(target=_watch_lost, args=(find_lost, over, last_words, grace_seconds), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()


def _watch_lost(
    find_lost: Callable[[], str | None], over: threading.Event, last_words: str, grace_seconds: float
) -> None:
    while not over.wait(LOOK_SECONDS):
        if (lost := find_lost()) and not over.wait(grace_seconds):
            _end(last_words.replace("{}", lost, 1), code=1)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _watch(reader: int, over: threading.Event, last_words: str, grace_seconds: float) -> None:
    with os.fdopen(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] in ASKS and not over.wait(grace_seconds):
                _end(last_words, code=130)


def _end(last_words: str, *, code: int) -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    # The terminal may be what is gone.
    with contextlib.suppress(OSError):
        print(last_words, file=sys.stderr, flush=True)
    os._exit(code)
