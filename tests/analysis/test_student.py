import numpy as np
import pytest
from scipy import stats

from gcc_search.analysis.student import mean_interval


@pytest.mark.parametrize("num_values", [2, 3, 7])
def test_the_interval_is_the_one_that_scipy_finds(num_values):
    values = np.random.default_rng(0).normal(size=(num_values, 4))
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, num_values - 1, loc=values.mean(axis=0), scale=stats.sem(values))
    np.testing.assert_allclose((low, high), expected)
    np.testing.assert_allclose(mean, values.mean(axis=0))


@pytest.mark.parametrize("num_values", [2, 3, 4, 5, 8])
def test_nineteen_of_twenty_intervals_hold_the_mean_however_few_the_values(num_values):
    """A percentile bootstrap's hold it in 50 to 87 % of cases."""
    _, low, high = mean_interval(np.random.default_rng(1).normal(size=(num_values, 4000)))
    # Three standard errors of a share of 4,000.
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.95, abs=0.0105)


def test_equal_values_have_an_interval_of_no_width():
    mean, low, high = mean_interval(np.full((3, 2), 0.25))
    assert mean.tolist() == low.tolist() == high.tolist() == [0.25, 0.25]
