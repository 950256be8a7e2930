"""When a trial is given up, and by what its baseline has reached, which may train beside it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gcc_search.collapse import Judge, Verdict, first_verdict, points_compared, sign_of_accuracy
from gcc_search.results.schema import EpochRow
from gcc_search.settings import Collapse

GOOD = EpochRow(
    epoch=1,
    lr=0.01,
    loss=1.0,
    cross_entropy=1.0,
    consistency_loss=0.5,
    sparsity_loss=0.5,
    accuracy_points=50.0,
    consistency=0.6,
    chance=0.4,
    corrected_consistency=0.3,
    correlation=0.5,
    gini=0.4,
    mass_half=0.3,
    degenerate_fraction=0.0,
    box_mass=None,
    pointing=None,
    train_seconds=1.0,
    evaluation_seconds=1.0,
    peak_memory_bytes=1.0,
)


class Baseline:
    """One that trains beside a trial."""

    def __init__(self) -> None:
        self.points: list[float] = []

    def __call__(self) -> list[float]:
        return self.points


def rows(*points: float) -> list[EpochRow]:
    return [replace(GOOD, epoch=epoch, accuracy_points=accuracy) for epoch, accuracy in enumerate(points, start=1)]


@pytest.mark.parametrize(
    ("reached", "epoch", "expected"),
    [
        ([], 1, 0.0),
        ([], 2, None),
        ([10.0], 3, 10.0),
        ([10.0, 20.0, 30.0], 5, 20.0),
        # The last epoch of six: nothing but the baseline's own last will do.
        ([10.0, 20.0, 30.0, 40.0, 50.0], 6, None),
        ([10.0, 20.0, 30.0, 40.0, 50.0, 60.0], 6, 60.0),
    ],
)
def test_a_trial_is_compared_with_half_the_epochs_as_far_as_its_baseline_has_come(reached, epoch, expected):
    assert points_compared(reached, epoch, epochs=6) == expected


def test_a_row_that_is_ahead_of_its_baseline_is_looked_at_again_when_that_has_come_so_far():
    baseline = Baseline()
    judge = Judge(Collapse(), baseline, epochs=6)
    dip, recovered, further = rows(50.0, 39.9, 50.0, 50.0)[1:]
    assert judge.verdict(dip) is None
    assert judge.verdict(recovered) is None
    baseline.points = [50.0]
    assert judge.verdict(further) == ("collapsed", "accuracy 10.1 points under the baseline's in epoch 2")


def test_a_row_is_looked_at_once_it_can_be_and_then_no_more():
    baseline = Baseline()
    judge = Judge(Collapse(), baseline, epochs=6)
    baseline.points = [50.0]
    second, third = rows(50.0, 40.0, 50.0)[1:]
    assert judge.verdict(second) is None
    # As no baseline's does: what it was found by has been looked at.
    baseline.points = [60.0]
    assert judge.verdict(replace(third, accuracy_points=60.0)) is None


def test_rows_from_before_an_interruption_are_looked_at_too():
    dip = rows(50.0, 39.9)
    judge = Judge(Collapse(), lambda: [50.0], epochs=6, earlier=dip)
    assert judge.verdict(rows(0.0, 0.0, 50.0)[2]) == (
        "collapsed",
        "accuracy 10.1 points under the baseline's in epoch 2",
    )
    late = Judge(Collapse(min_epochs=3), lambda: [50.0], epochs=6, earlier=dip)
    assert late.verdict(rows(0.0, 0.0, 50.0)[2]) is None


def test_maps_need_no_baseline_to_be_constant():
    judge = Judge(Collapse(), Baseline(), epochs=6)
    (dark,) = rows(0.0)
    assert judge.verdict(replace(dark, epoch=4, degenerate_fraction=0.6)) == (
        "collapsed",
        "60% of the maps constant in epoch 4",
    )


def random_rows(draw: random.Random, epochs: int) -> list[EpochRow]:
    """Of a trial that may dip, have constant maps for a while, and diverge."""
    found = rows(*(draw.choice([45.0, 50.0, 60.0, 80.0]) for _ in range(epochs)))
    found = [replace(row, degenerate_fraction=draw.choice([0.0, 0.0, 0.0, 0.6])) for row in found]
    return [replace(row, loss=float("nan")) if draw.random() < 0.05 else row for row in found]


def judged_beside(trial: list[EpochRow], reached: list[float], rule: Collapse, draw: random.Random) -> Verdict | None:
    """By a worker whose baseline trains beside it and which may be interrupted, and once more after both have ended."""
    baseline, told, epochs = Baseline(), None, len(reached)
    judge = Judge(rule, baseline, epochs=epochs)
    for number, row in enumerate(trial, start=1):
        known = draw.choice([len(baseline.points), draw.randint(len(baseline.points), epochs)])
        baseline.points = reached[:known]
        if told := judge.verdict(row):
            break
        if draw.random() < 0.2:
            judge = Judge(rule, baseline, epochs=epochs, earlier=trial[:number])
    return first_verdict(trial[:number], reached, rule, epochs=epochs) or told


@pytest.mark.parametrize("seed", range(300))
def test_however_fast_a_baseline_trains_beside_it_a_trial_ends_as_after_it(seed):
    draw = random.Random(seed)
    epochs = draw.randint(1, 8)
    rule = Collapse(points=10, min_epochs=draw.choice([1, 1, 3]))
    reached = [draw.choice([50.0, 60.0, 70.0]) for _ in range(epochs)]
    trial = random_rows(draw, epochs)
    after = Judge(rule, lambda: reached, epochs=epochs)
    expected = next((told for row in trial if (told := after.verdict(row))), None)
    for _ in range(10):
        assert judged_beside(trial, reached, rule, draw) == expected


def test_a_row_that_was_ahead_of_its_baseline_comes_before_one_that_diverges():
    baseline = Baseline()
    judge = Judge(Collapse(), baseline, epochs=6)
    dip, further = rows(50.0, 39.9, 50.0)[1:]
    assert judge.verdict(dip) is None
    baseline.points = [50.0]
    assert judge.verdict(replace(further, loss=float("nan"))) == (
        "collapsed",
        "accuracy 10.1 points under the baseline's in epoch 2",
    )


def test_a_baseline_itself_shows_no_sign_but_diverges():
    judge = Judge(Collapse(), None, epochs=6)
    (dark,) = rows(0.0)
    assert judge.verdict(replace(dark, degenerate_fraction=1.0)) is None
    assert judge.verdict(replace(dark, loss=float("nan"))) == ("diverged", "loss was not finite in epoch 1")


@pytest.mark.parametrize(("points", "of_baseline"), [(None, 90.0), (10.0, None), (80.0, 90.0), (80.0 - 1e-12, 90.0)])
def test_an_accuracy_that_is_not_known_or_near_enough_is_no_sign(points, of_baseline):
    assert sign_of_accuracy(points, of_baseline, limit=10.0) is None
