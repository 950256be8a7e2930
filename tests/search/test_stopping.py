"""A stop that was asked for once is a stop, wherever the program was just then."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from gcc_search.search.stopping import heeds_signals


def ask_for(stop: signal.Signals) -> None:
    os.kill(os.getpid(), stop)
    time.sleep(1)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(stop):
    with pytest.raises(KeyboardInterrupt), heeds_signals():
        ask_for(stop)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_was_swallowed_is_raised_again_at_the_next_step(stop):
    with heeds_signals() as reminder:
        with contextlib.suppress(KeyboardInterrupt):
            ask_for(stop)
        with pytest.raises(KeyboardInterrupt):
            reminder.on_step_begin(1, [])


def test_steps_go_on_while_nobody_asks():
    with heeds_signals() as reminder:
        reminder.on_step_begin(1, [])


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with heeds_signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
