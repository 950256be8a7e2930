"""Which trials go on from a rung, under one objective, several, and constraints."""

from __future__ import annotations

import math
import random
import statistics
import time

import numpy as np
import pytest

from gcc_search.search.rung import Rung


def add_all(rung, trials, *, eta):
    return [rung.add(f"{number}", losses, violation, eta=eta) for number, (losses, violation) in enumerate(trials)]


@pytest.mark.parametrize(
    ("value", "others", "eta", "expected"),
    [
        (0.1, [], 3, True),
        (0.1, [0.2], 3, False),
        (0.2, [0.1], 3, True),
        (0.2, [0.2], 3, True),
        (0.2, [0.3, 0.1, 0.1], 3, True),
        (0.2, [0.3, 0.25, 0.1], 3, False),
        (0.2, [0.3, 0.1, 0.1], 4, False),
    ],
)
def test_of_one_objective_the_best_of_each_eta_go_on(value, others, eta, expected):
    rung = Rung(10, 1)
    assert add_all(rung, [([-other], 0.0) for other in (*others, value)], eta=eta)[-1] is expected


def goes_on(own, others, *, eta):
    """The rule for one objective, word for word: better is who violates less, then who has the smaller loss."""
    better = sum((other[1], other[0]) < (own[1], own[0]) for other in others)
    return better < math.ceil((len(others) + 1) / eta)


@pytest.mark.parametrize("seed", range(10))
def test_of_one_objective_it_decides_as_a_walk_over_all_of_them_does(seed):
    draw, rung, reached = random.Random(seed), Rung(400, 1), []
    eta = draw.choice([2, 3, 4])
    for number in range(400):
        # Ties, and both zeros.
        loss = draw.choice([draw.random(), draw.randrange(-2, 3) / 2, -0.0])
        violation = draw.choice([0.0, 0.0, draw.random()])
        # Of those that violate as much, none is better.
        own = (loss if violation == 0 else 0.0, violation)
        assert rung.add(f"{number}", [loss], violation, eta=eta) is goes_on(own, reached, eta=eta)
        reached.append(own)


def test_who_keeps_the_constraints_goes_before_who_does_not():
    trials = [([0.9, 0.9], 0.0), ([0.1, 0.1], 0.2), ([0.5, 0.9], 0.0), ([0.0, 0.0], 0.1)]
    assert add_all(Rung(4, 2), trials, eta=2) == [True, False, True, False]
    # Where all break them, who breaks them least.
    assert add_all(Rung(3, 2), [([0.1, 0.1], 0.2), ([0.9, 0.9], 0.1), ([0.0, 0.0], 0.3)], eta=2) == [True, True, False]


def test_who_is_beaten_stops_and_who_is_best_in_an_objective_goes_on():
    best_in_each, beaten = [([0.1, 0.9], 0.0), ([0.9, 0.1], 0.0)], [([0.9, 0.9], 0.0), ([0.95, 0.2], 0.0)]
    assert add_all(Rung(4, 2), [*beaten, *best_in_each], eta=2) == [True, False, True, True]
    # Between them the one that adds more hypervolume goes on, as long as there is room.
    between = [([0.2, 0.3], 0.0), ([0.3, 0.25], 0.0)]
    assert add_all(Rung(6, 2), [*best_in_each, *beaten, *between], eta=2) == [True, False, False, False, True, False]


def test_of_a_front_that_is_too_large_the_first_objective_counts_most():
    front = [([0.5, 0.5], 0.0), ([0.9, 0.1], 0.0), ([0.1, 0.9], 0.0)]
    assert add_all(Rung(3, 2), front, eta=3) == [True, False, True]


def test_equals_go_on_together():
    trials = [([0.2, 0.8], 0.0)] * 4
    assert add_all(Rung(4, 2), trials, eta=4) == [True] * 4


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_no_more_go_on_than_are_to_and_none_that_one_of_those_who_stop_beats(num_objectives):
    draw = np.random.default_rng(num_objectives)
    losses = draw.random((60, num_objectives))
    rung = Rung(61, num_objectives)
    add_all(rung, [(row.tolist(), 0.0) for row in losses], eta=3)
    # By asking once more, when all have come by.
    stay = np.array([rung.add(f"{number}", [], 0.0, eta=3) for number in range(60)])
    assert stay.sum() == 20
    beats = (losses[:, None] <= losses[None]).all(-1) & (losses[:, None] < losses[None]).any(-1)
    assert not beats[np.ix_(~stay, stay)].any()


def test_one_that_comes_by_again_is_judged_by_what_it_reached_first():
    rung = Rung(3, 1)
    assert add_all(rung, [([-0.5], 0.0), ([-0.6], 0.0)], eta=2) == [True, True]
    assert rung.add("0", [-0.9], 0.0, eta=2) is False
    # The second of three; counted twice, the first would leave it the third of four.
    assert rung.add("2", [-0.55], 0.0, eta=2) is True


def test_the_last_of_many_trials_waits_hardly_longer_than_the_first():
    rung, draw = Rung(10_000, 1), random.Random(0)
    seconds = []
    for number in range(10_000):
        begun = time.perf_counter()
        rung.add(f"{number}", [draw.random()], 0.0, eta=3)
        seconds.append(time.perf_counter() - begun)
    # A report costs the driver a millisecond.
    assert statistics.median(seconds[-1000:]) < 1e-3
