import math
import statistics

import numpy as np
import pytest
from scipy.stats import binomtest

from gcc_search.analysis.bootstrap import mcnemar_p, percentile_interval, resampled_means, standard_error


def _reference_resampled_means(values, *, resamples, seed):
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(0, len(values), size=len(values)) for _ in range(resamples)]
    return np.array([values[images].mean(axis=0) for images in drawn])


@pytest.mark.parametrize("num_images", [1, 2, 7, 300])
def test_resampled_means_are_those_of_drawing_one_by_one(num_images):
    values = np.random.default_rng(1).normal(size=(num_images, 3))
    # More than are drawn at once, and not a multiple of it.
    expected = _reference_resampled_means(values, resamples=1100, seed=5)
    np.testing.assert_allclose(resampled_means(values, resamples=1100, seed=5), expected, rtol=0, atol=1e-13)


def test_columns_are_drawn_together():
    column = np.random.default_rng(1).normal(size=(40, 1))
    drawn = resampled_means(np.concatenate([column, column + 2], axis=1), resamples=50)
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 2)


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(1).normal(size=(1000, 1))
    low, high = percentile_interval(resampled_means(values)[:, 0])
    error = standard_error(values[:, 0])
    assert error is not None
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_the_interval_holds_the_central_share():
    assert percentile_interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))


def test_standard_error_of_a_small_case():
    assert standard_error(np.array([1.0, 2.0, 4.0])) == pytest.approx(statistics.stdev([1, 2, 4]) / math.sqrt(3))


def test_a_single_value_has_no_standard_error():
    assert standard_error(np.array([1.0])) is None


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (5, 0), (1, 9), (7, 7), (30, 52), (900, 1100)])
def test_mcnemars_test_is_the_binomial_test_of_the_images_they_disagree_on(lost, won):
    expected = 1.0 if lost + won == 0 else binomtest(lost, lost + won).pvalue
    assert mcnemar_p(lost, won) == pytest.approx(expected, rel=1e-9)


def test_mcnemars_test_does_not_care_who_is_called_baseline():
    assert mcnemar_p(3, 11) == mcnemar_p(11, 3)
