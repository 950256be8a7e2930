"""What is started in a search that may take so many hours: nothing that would not end in time."""

from __future__ import annotations

import itertools

import pytest

from gcc_search.search.hours import Hours


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_ends_in_time_is_started_and_what_would_not_is_kept_back(clock):
    told = []
    hours = Hours(0.5, told.append, clock)
    clock.seconds += 600
    assert hours.hold(1199)
    assert (hours.have_kept_back, told) == (False, [])
    assert not hours.hold(1200)
    assert hours.hold(1199)
    assert not hours.hold(5000)
    assert hours.have_kept_back
    assert told == ["max_hours: nothing is started from now on that would not end within 0.5 h"]


def test_what_takes_nobody_knows_how_long_is_started_until_the_time_is_up(clock):
    hours = Hours(1, print, clock)
    clock.seconds += 3599
    assert hours.hold(None)
    clock.seconds += 1
    assert not hours.hold(None)


def test_without_a_limit_there_is_time_for_all():
    seconds = itertools.count(step=10**9)
    hours = Hours(None, print, lambda: float(next(seconds)))
    assert hours.hold(1e12)
    assert not hours.have_kept_back
