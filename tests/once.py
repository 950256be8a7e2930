"""What one of the processes that run these tests makes and the others take: a search costs more than looking at it."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What `make` returns when it is given a folder that is there and empty; those who come later wait for it.

    It is handed on by pickle. Nobody may change what lies in the folder.
    """
    ours = factory.getbasetemp()
    # xdist gives each process a folder of its own below that of all.
    place = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours
    kept = place / f"{name}.pickle"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            made: Made = pickle.loads(kept.read_bytes())
            return made
        # Where another process failed at it, what that one left stays as it is.
        made = make(factory.mktemp(name))
        kept.write_bytes(pickle.dumps(made))
        return made
