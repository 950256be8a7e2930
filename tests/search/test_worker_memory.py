from __future__ import annotations

import gc
import sys
import threading
import weakref

import psutil
import pytest
import torch

from gcc_search.footprint import in_fresh_process
from gcc_search.search.worker_memory import give_back_memory, set_modules_aside

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory, and can be told not to")
def test_what_a_trials_thread_has_freed_goes_back_to_the_machine():
    kept: list[bytes] = []

    def train() -> None:
        chunks = [bytes(3000) for _ in range(100_000)]
        # Here and there something stays, as loaded modules and caches do: the rest is freed in pieces.
        kept.extend(chunks[::100])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    held = psutil.Process().memory_info().rss
    give_back_memory(torch.device("cpu"))
    assert held - psutil.Process().memory_info().rss > 100 * MIB
    assert len(kept) == 1000


class Ring:
    """Garbage that only a search finds."""

    def __init__(self) -> None:
        self.me = self


def counts_of_what_is_set_aside() -> list[int]:
    gc.disable()
    counts = []
    for _ in range(3):
        set_modules_aside()
        counts.append(gc.get_freeze_count())
        loaded = [[] for _ in range(5000)]
    ring = weakref.ref(Ring())
    give_back_memory(torch.device("cpu"))
    return [*counts, len(gc.get_objects()) - len(loaded), int(ring() is None)]


def test_what_the_first_trial_loads_is_set_aside_too_and_what_later_ones_leave_is_still_found():
    first, second, third, looked_through, is_found = in_fresh_process(counts_of_what_is_set_aside)
    assert first > 100_000
    assert second >= first + 5000
    assert third <= second
    assert looked_through < 1000
    assert is_found
