"""Constraints as people write them, and how far a value is on their wrong side."""

from dataclasses import fields

import pytest

from gcc_search.errors import SpaceError
from gcc_search.objectives import METRICS, closest, parse_constraint
from gcc_search.results.schema import EpochRow


def message_of(text: str) -> str:
    with pytest.raises(SpaceError) as caught:
        parse_constraint(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "at_least", "relative", "offset"),
    [
        ("accuracy >= baseline - 1.0", True, True, -1.0),
        ("accuracy >= baseline + .5", True, True, 0.5),
        ("accuracy>=baseline-2", True, True, -2.0),
        ("  accuracy   <=   baseline  ", False, True, 0.0),
        ("accuracy >= 0.4", True, False, 0.4),
        ("accuracy <= -1e-2", False, False, -0.01),
        ("accuracy >= 90.", True, False, 90.0),
        ("accuracy >= baseline - 1E+1", True, True, -10.0),
    ],
)
def test_a_constraint_is_read_as_it_is_meant(text, at_least, relative, offset):
    found = parse_constraint(text)
    assert (found.text, found.metric, found.at_least) == (text, METRICS["accuracy"], at_least)
    assert (found.relative, found.offset) == (relative, offset)


@pytest.mark.parametrize(
    "text",
    [
        "", "accuracy", "accuracy > baseline", "accuracy == 3", "accuracy >= ", "accuracy >= base", "accuracy >= 1 %",
        "baseline - 1 <= accuracy", "accuracy >= baseline * 0.9", "accuracy >= baseline - -1", "accuracy >= nan",
        "accuracy >= 1_0", "accuracy >= baseline -", "accuracy >= ٣", "corrected consistency >= 0",
    ],
)  # fmt: skip
def test_other_words_are_refused_with_an_example(text):
    form = '"METRIC >= baseline - NUMBER" or "METRIC >= NUMBER" (or <=)'
    assert message_of(text) == f'must read {form}, got "{text}"'


def test_an_unknown_metric_is_answered_with_the_nearest_one():
    assert message_of("Accuracy >= 1") == 'must name a known metric, got "Accuracy"; did you mean accuracy?'


def test_an_endless_number_is_refused():
    assert message_of("gini >= 1e999") == 'must hold a finite number, got "gini >= 1e999"'


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("accuracy >= baseline - 1.0", 78.5, 0.5),
        ("accuracy >= baseline - 1.0", 79.0, 0.0),
        ("accuracy >= baseline - 1.0", 90.0, -11.0),
        ("mass_half <= baseline + 0.25", 81.0, 0.75),
        ("degenerate_fraction <= 0.05", 0.25, 0.2),
        ("degenerate_fraction <= 0.05", 0.0, -0.05),
        ("mass_half <= baseline + 0.25", 80.0, -0.25),
        ("gini >= 0.5", 0.25, 0.25),
        ("gini >= 0.5", 0.75, -0.25),
        ("gini <= 0.5", 0.75, 0.25),
        ("gini <= 0.5", 0.25, -0.25),
    ],
)
def test_a_violation_is_the_distance_to_the_right_side(text, value, violation):
    assert parse_constraint(text).violation(value, baseline=80.0) == violation


@pytest.mark.parametrize("text", ["gini >= 0.5", "gini <= 0.5"])
def test_what_does_not_mention_the_baseline_does_not_depend_on_it(text):
    constraint = parse_constraint(text)
    assert constraint.violation(0.25, baseline=0.0) == constraint.violation(0.25, baseline=100.0)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_a_column_of_every_epoch_and_worst_is_not_best(metric):
    assert metric.column in {field.name for field in fields(EpochRow)}
    assert (metric.worst < metric.best) == (metric.goal == "maximize")


def test_accuracy_is_counted_in_points():
    assert (METRICS["accuracy"].column, METRICS["accuracy"].best) == ("accuracy_points", 100)


def test_the_closest_name_is_offered_or_all_of_them():
    assert closest("ginni", METRICS) == "did you mean gini?"
    assert closest("xyz", ("a", "b")) == "known are a, b"


def test_accuracies_are_compared_as_shares_of_images_and_not_to_the_last_bit():
    """Of 1000 images as many may be lost as are named, and not one more."""
    constraint, points = parse_constraint("accuracy >= baseline - 1.0"), [100 * (right / 1000) for right in range(1001)]
    assert all(constraint.violation(lost, baseline) <= 0 for lost, baseline in zip(points, points[10:], strict=False))
    assert all(constraint.violation(lost, baseline) > 0 for lost, baseline in zip(points, points[11:], strict=False))
