from __future__ import annotations

import gc
import threading
import weakref

import pytest

from gcc_search.search.lasting_thread import in_lasting_thread


def test_all_work_of_a_process_is_done_in_one_thread_whoever_asks():
    found = []
    for _ in range(2):
        asker = threading.Thread(target=lambda: found.append(in_lasting_thread(threading.current_thread)))
        asker.start()
        asker.join()
    found.append(in_lasting_thread(threading.current_thread))
    (thread,) = set(found)
    assert thread is not threading.current_thread()
    assert thread.daemon


class Held:
    """What a trial holds."""


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_is_raised_comes_out_and_holds_nothing_back_until_the_next_work(kind):
    held = []

    def fail() -> None:
        kept = Held()
        held.append(weakref.ref(kept))
        raise kind("too much")

    def told() -> str:
        try:
            return in_lasting_thread(fail)
        except kind as error:
            return str(error)

    gc.disable()
    try:
        assert told() == "too much"
        assert held[0]() is None
    finally:
        gc.enable()
    assert in_lasting_thread(lambda: 3) == 3
