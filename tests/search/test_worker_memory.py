from __future__ import annotations

import sys
import threading

import psutil
import pytest

from gcc_search.search.worker_memory import give_back_memory

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
    give_back_memory()
    assert held - psutil.Process().memory_info().rss > 100 * MIB
    assert len(kept) == 1000
