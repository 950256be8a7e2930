"""Gives what a worker has freed back to its machine: its next trial runs in another thread, and would not find it."""

from __future__ import annotations

import ctypes
import gc


def give_back_memory() -> None:
    """Afterwards the process holds what it uses.

    glibc keeps what a thread has freed for that thread, and Ray runs each trial in a new one: a worker that trained
    ResNet18 on the CPU grew from 1.4 to 2.0 GiB in five trials, and stays at 0.9 with this. Elsewhere than in glibc
    only Python's own garbage goes.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
