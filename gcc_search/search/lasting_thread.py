"""One thread for all that a worker process trains, though Ray asks for each trial in a thread of its own.

torch keeps cuDNN's plans for each thread and each shape of a convolution, some 28 kB each, and since 2.10 never lets go
of those of a thread that has ended. On an H100 each trial of ResNet18 in a thread of its own left 1.2 MiB; its plans
would be as much (reckoned), and are made anew in each thread.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")


def in_lasting_thread(work: Callable[[], R]) -> R:
    """What `work` returns or raises, `SystemExit` too; called in a thread that is this process's only one for it."""
    answer: Future[R] = Future()
    _asked().put((work, answer))
    try:
        return answer.result()
    finally:
        # An error's traceback holds on to this frame: not in a ring, or all that the work held stays with it.
        del answer


@functools.cache
def _asked() -> SimpleQueue[tuple[Callable[[], Any], Future[Any]]]:
    """To be done one after the other, by the thread that comes with it."""
    asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
    # As Ray's own threads, it does not hold up a process that ends.
    threading.Thread(target=_serve, args=(asked,), daemon=True, name="trials").start()
    return asked


def _serve(asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
    while True:
        _answer(*asked.get())


def _answer(work: Callable[[], Any], answer: Future[Any]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:
        answer.set_exception(error)
    finally:
        # As above.
        del answer
