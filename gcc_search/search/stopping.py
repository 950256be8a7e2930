"""Ctrl-C that is not lost: where the exception it raises is swallowed, Tune's next step raises it again.

Python runs a signal's handler between two lines of whatever is at work. Where that is a destructor or a callback from
Ray's C code, the KeyboardInterrupt ends there, without a word, and the search would run on to its end.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from ray.tune import Callback


class StopReminder(Callback):
    """Ray tells it of each step; once a stop was asked for, the next step is the last."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """As a signal handler."""
        self._asked = True
        raise KeyboardInterrupt

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt


@contextlib.contextmanager
def heeds_signals() -> Iterator[StopReminder]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the body, and the reminder knows of them. Yields the reminder."""
    reminder = StopReminder()
    # Only the main thread may set handlers, and only there are they run.
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, reminder.ask) for number in numbers}
    try:
        yield reminder
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
