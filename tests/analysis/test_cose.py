"""COSE's means on pairs that can be reckoned by hand, their errors against plain ones and a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gcc_search.analysis.bootstrap import standard_error
from gcc_search.analysis.cose import Pairs, cose_means
from gcc_search.analysis.cose_table import cose_table

NAMES = ("turn", "flip", "blur", "random weights")


def make_pairs(similarity, predicted_then, *, weights=(6, 1, 1, 1), label=1, predicted=1) -> Pairs:
    """Of four columns; every image has this label and this prediction."""
    is_right = np.array(predicted_then) == label
    was_right = np.full(is_right.shape, predicted == label)
    return Pairs(
        names=NAMES,
        weights=np.array(weights, dtype=float),
        is_geometric=np.array([True, True, False, False]),
        similarity=np.array(similarity, dtype=float),
        is_kept=was_right & is_right,
        is_changed=was_right & ~is_right,
    )


def by_name(pairs: Pairs):
    return {mean.name: mean for mean in cose_means(pairs)}


@pytest.fixture
def many() -> Pairs:
    """Forty images, with some changed predictions in each column."""
    random = np.random.default_rng(0)
    quality = random.uniform(0, 0.4, (40, 1))
    return make_pairs(0.5 + quality + random.uniform(-0.1, 0.1, (40, 4)), random.random((40, 4)) < 0.7)


def test_a_small_case_by_hand():
    #                   turn flip blur random
    pairs = make_pairs([[0.8, 1.0, 0.9, 0.2], [0.6, 0.4, 0.7, 0.9]], [[1, 1, 1, 0], [1, 2, 1, 1]])
    means = by_name(pairs)
    consistency = (6 * 0.8 + 1.0 + 0.9 + 6 * 0.6 + 0.7) / (6 + 1 + 1 + 6 + 1)
    # Random weights that are right by chance say nothing.
    sensitivity = (0.2 + 0.4) / 2
    assert means["consistency"].value == pytest.approx(consistency)
    assert means["sensitivity"].value == pytest.approx(sensitivity)
    assert means["COSE"].value == pytest.approx(math.sqrt(consistency * (1 - sensitivity)))
    assert means["geometric"].value == pytest.approx((6 * 0.8 + 1.0 + 6 * 0.6) / 13)
    assert means["photometric"].value == pytest.approx(0.8)
    assert means["turn"].value == pytest.approx(0.7)
    assert means["changed by a transform"].value == pytest.approx(0.4)
    assert means["random weights"].value == pytest.approx(0.2)
    assert [(means[name].num_pairs, means[name].num_images) for name in ("COSE", "consistency", "sensitivity")] == [
        (7, 2),
        (5, 2),
        (2, 2),
    ]


def test_images_that_were_wrong_count_for_nothing():
    means = by_name(make_pairs(np.ones((3, 4)), np.ones((3, 4)), predicted=2))
    assert {mean.value for mean in means.values()} == {None}
    assert {mean.num_pairs for mean in means.values()} == {0}


def test_constant_maps_are_worth_nothing():
    means = by_name(make_pairs(np.ones((2, 4)), [[1, 1, 1, 0], [1, 1, 2, 0]]))
    assert (means["consistency"].value, means["sensitivity"].value, means["COSE"].value) == (1, 1, 0)
    assert means["COSE"].standard_error is None


def test_a_consistency_below_nothing_is_worth_nothing():
    means = by_name(make_pairs(np.full((2, 4), -0.1), [[1, 1, 1, 0], [1, 1, 1, 0]]))
    assert means["COSE"].value == 0


def test_without_a_changed_prediction_there_is_no_sensitivity_and_no_cose():
    means = by_name(make_pairs(np.ones((2, 4)), np.ones((2, 4))))
    assert means["consistency"].value == 1
    assert means["sensitivity"].value is None
    assert means["COSE"].value is None


def test_the_error_of_one_transform_is_that_of_a_mean(many):
    kept = many.similarity[many.is_kept[:, 0], 0]
    mean = by_name(many)["turn"]
    assert mean.value == pytest.approx(kept.mean())
    assert mean.standard_error == pytest.approx(standard_error(kept))


@pytest.mark.parametrize("name", ["COSE", "consistency", "sensitivity", "geometric", "changed by a transform"])
def test_errors_are_those_of_images_drawn_again(many, name):
    random = np.random.default_rng(1)
    drawn = [by_name(_select(many, random.integers(0, 40, 40)))[name].value for _ in range(1000)]
    assert by_name(many)[name].standard_error == pytest.approx(np.std(drawn), rel=0.15)


def _select(pairs: Pairs, rows) -> Pairs:
    return Pairs(
        names=pairs.names,
        weights=pairs.weights,
        is_geometric=pairs.is_geometric,
        similarity=pairs.similarity[rows],
        is_kept=pairs.is_kept[rows],
        is_changed=pairs.is_changed[rows],
    )


def test_a_single_image_has_no_error():
    means = by_name(make_pairs([[0.8, 1.0, 0.9, 0.2]], [[1, 1, 1, 0]]))
    assert {mean.standard_error for mean in means.values()} == {None}


def test_the_order_of_images_and_of_transforms_changes_nothing(many):
    turned = _select(many, np.arange(40)[::-1])
    assert [mean.value for mean in cose_means(turned)] == pytest.approx([mean.value for mean in cose_means(many)])


def test_the_table_sets_parts_in_below_what_they_are_part_of(many):
    table = cose_table(cose_means(many))
    names = [str(cell) for cell in table.columns[0].cells]
    assert names == [
        "COSE ↑",
        "consistency ↑",
        "  geometric ↑",
        "    turn ↑",
        "    flip ↑",
        "  photometric ↑",
        "    blur ↑",
        "sensitivity ↓",
        "  changed by a transform ↓",
        "  random weights ↓",
    ]


def test_what_there_is_none_of_is_a_dash():
    table = cose_table(cose_means(make_pairs(np.ones((2, 4)), np.ones((2, 4)))))
    assert [str(next(iter(column.cells))) for column in table.columns] == ["COSE ↑", "-", "-", "6", "2"]
