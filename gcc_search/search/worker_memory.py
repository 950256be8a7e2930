"""Gives what a worker has freed back to its machine: its next trial runs in another thread, and would not find it."""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc

import torch


@functools.cache
def set_modules_aside() -> None:
    """Once in a process: what is there by now stays for good, and is not searched for garbage after each trial.

    That took half a second of every trial: Ray, torch and what they load are 450,000 objects, a trial leaves 2,000.
    """
    gc.freeze()
    # At its end a process clears up whatever it can; of what it cannot, libraries complain.
    atexit.register(gc.unfreeze)


def give_back_memory(device: torch.device) -> None:
    """Afterwards the process holds what it uses.

    glibc keeps what a thread has freed for that thread, and Ray runs each trial in a new one: a worker that trained
    ResNet18 on the CPU grew from 1.4 to 2.0 GiB in five trials, and stays at 0.9 with this. Torch's allocator keeps
    memory of a GPU as well, where others may want it while this process waits for its next trial.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    if device.type == "cuda":
        torch.cuda.empty_cache()
