import numpy as np
import pytest
from scipy import stats

from gcc_search.analysis.findings import find
from gcc_search.analysis.importance import Importance
from gcc_search.results.reader import read_run


@pytest.fixture
def searched(new_run):
    """Twenty trials: Gini follows beta with noise, distance decides C*, alpha nothing."""
    run, random = new_run(), np.random.default_rng(0)
    run.baseline()
    values = []
    for index in range(20):
        alpha, beta, distance = *random.uniform(size=2), ("ssim", "correlation")[index % 2]
        measured = {
            "gini": beta + 0.3 * random.normal(),
            "corrected": 0.5 * (distance == "ssim") + 0.1 * random.normal(),
        }
        run.trial(f"t{index:02d}", sampled={"alpha": alpha, "beta": beta, "distance": distance}, **measured)
        values.append((alpha, beta, distance, measured["gini"], measured["corrected"]))
    return run, list(zip(*values, strict=True))


def importances_of(run) -> dict[tuple[str, str], Importance]:
    found = find(read_run(run.folder)).importances
    return {(item.metric, item.parameter): item for item in found}


def test_the_share_of_a_number_is_spearmans_correlation_squared(searched):
    run, (alpha, beta, _, gini, _) = searched
    found = importances_of(run)
    for name, values in (("alpha", alpha), ("beta", beta)):
        expected = stats.spearmanr(values, gini)
        assert found["gini", name].correlation == pytest.approx(expected.statistic)
        assert found["gini", name].share == pytest.approx(expected.statistic**2)
        assert found["gini", name].p_value == pytest.approx(expected.pvalue, abs=0.03)


def test_the_share_of_choices_is_that_of_kruskal_and_wallis(searched):
    run, (_, _, distance, _, corrected) = searched
    groups = [[c for c, d in zip(corrected, distance, strict=True) if d == name] for name in ("ssim", "correlation")]
    found = importances_of(run)["corrected_consistency", "distance"]
    assert found.share == pytest.approx(stats.kruskal(*groups).statistic / 19)
    assert (found.correlation, found.num_trials) == (None, 20)
    assert found.p_value < 0.01


def test_a_metric_that_never_changes_has_no_importances(searched):
    run, _ = searched
    assert ("accuracy", "alpha") not in importances_of(run)


def test_few_trials_have_no_importances(mixed_run):
    assert importances_of(mixed_run) == {}
