"""A stop that was asked for once is a stop, wherever the program was: swallowed below Ray, or blocked in C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from ray._private import utils

from gcc_search.search.going_on import ASKS
from gcc_search.search.ray_signals import ray_leaves_signals
from gcc_search.search.stopping import ends_when_lost, heeds_signals

# A mutex of the C library that is locked twice: no signal wakes who waits for it.
BLOCKED = """
    import ctypes, signal, subprocess
    from gcc_search.search.stopping import ends_when_asked
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A shell's background has Ctrl-C ignored.
        signal.signal(asked, signal.default_int_handler)
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    child = subprocess.Popen(["sleep", "600"])
    with ends_when_asked("go on: resume", grace_seconds=1):
        print(child.pid, flush=True)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
"""


@pytest.fixture(autouse=True)
def hangups():
    """As in a terminal, whatever these tests were started from, and left as it was."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def ask_for(stop: signal.Signals) -> None:
    os.kill(os.getpid(), stop)
    time.sleep(1)


@pytest.mark.parametrize("stop", ASKS)
def test_a_signal_interrupts(stop):
    with pytest.raises(KeyboardInterrupt), heeds_signals():
        ask_for(stop)


@pytest.mark.parametrize("stop", ASKS)
def test_an_interrupt_that_was_swallowed_is_raised_again_at_the_next_step(stop):
    with heeds_signals() as reminder:
        with contextlib.suppress(KeyboardInterrupt):
            ask_for(stop)
        with pytest.raises(KeyboardInterrupt):
            reminder.on_step_begin(1, [])


class AsksWhenDestroyed:
    def __del__(self) -> None:
        ask_for(signal.SIGTERM)


def test_what_must_not_be_broken_off_is_not_and_the_stop_comes_afterwards():
    done = []

    def go_to_its_end() -> None:
        ask_for(signal.SIGTERM)
        done.append("all of it")

    with heeds_signals() as reminder:
        with pytest.raises(KeyboardInterrupt), reminder.afterwards():
            go_to_its_end()
        assert done == ["all of it"]
        with pytest.raises(KeyboardInterrupt):
            ask_for(signal.SIGTERM)


def test_where_nobody_asks_nothing_comes_afterwards():
    with heeds_signals() as reminder, reminder.afterwards():
        pass


class FailsWhenDestroyed:
    def __del__(self) -> None:
        print(1 / 0)


def test_an_interrupt_that_a_destructor_swallows_is_raised_again_and_no_traceback_says_so():
    # Where one says so, pytest's hook hears it, and this fails.
    before = sys.unraisablehook
    with heeds_signals() as reminder:
        AsksWhenDestroyed()
        with pytest.raises(KeyboardInterrupt):
            reminder.on_step_begin(1, [])
    assert sys.unraisablehook is before


def test_what_else_a_destructor_swallows_is_told():
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
        with heeds_signals():
            FailsWhenDestroyed()
    assert told == [ZeroDivisionError]


def test_ray_sets_no_handler_where_it_is_kept_from_it():
    theirs, before = utils.set_sigterm_handler, signal.getsignal(signal.SIGTERM)
    with ray_leaves_signals():
        utils.set_sigterm_handler(signal.default_int_handler)
        assert signal.getsignal(signal.SIGTERM) is before
    assert utils.set_sigterm_handler is theirs


def test_steps_go_on_while_nobody_asks():
    with heeds_signals() as reminder:
        reminder.on_step_begin(1, [])


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in ASKS]
    with heeds_signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in ASKS] == before


def test_a_search_that_was_started_to_outlive_its_terminal_does():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with heeds_signals() as reminder:
        os.kill(os.getpid(), signal.SIGHUP)
        reminder.on_step_begin(1, [])


def test_a_second_hangup_does_not_break_off_the_end():
    with pytest.raises(KeyboardInterrupt), heeds_signals():
        ask_for(signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)


def wait_for_end_of(child: int) -> None:
    for _ in range(100):
        # Dead, if not buried yet by whoever inherited it.
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    raise AssertionError("the child lives on")


@pytest.mark.parametrize("asked", ASKS)
def test_a_process_that_hangs_in_c_ends_with_its_children_and_its_last_words(asked):
    command = [sys.executable, "-c", textwrap.dedent(BLOCKED)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        time.sleep(0.2)
        process.send_signal(asked)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "go on: resume\n")
    wait_for_end_of(child)


def test_what_ends_in_time_ends_as_it_would_have():
    code = """
        import os, signal, time
        from gcc_search.search.stopping import ends_when_asked
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with ends_when_asked("never", grace_seconds=1):
                os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            time.sleep(1.5)
            print("in order")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "in order\n", "")


def test_a_process_that_has_lost_what_it_needs_ends_with_its_children_and_its_last_words():
    code = """
        import subprocess, threading
        from gcc_search.search.stopping import ends_when_lost
        child = subprocess.Popen(["sleep", "600"])
        print(child.pid, flush=True)
        with ends_when_lost(lambda: "raylet", "got its {} killed; go on: {}", grace_seconds=0.1):
            threading.Event().wait()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "got its raylet killed; go on: {}\n")
    wait_for_end_of(int(done.stdout))


def test_what_ends_before_it_is_missed_ends_as_it_would_have():
    lost = []
    with ends_when_lost(lambda: "raylet" if lost else None, "never", grace_seconds=60):
        lost.append(True)
        time.sleep(1.5)
