import itertools
from dataclasses import replace

import numpy as np
import pytest

from gcc_search.analysis.findings import find
from gcc_search.analysis.growth import GrowthStep
from gcc_search.analysis.growth_figure import draw_growth
from gcc_search.analysis.hypervolume import hypervolume
from gcc_search.results.reader import read_run
from gcc_search.results.writer import write_run, write_trial


def _reference_hypervolume(gains):
    """By inclusion and exclusion over all subsets."""
    total = 0.0
    for size in range(1, len(gains) + 1):
        for subset in itertools.combinations(gains, size):
            total += (-1) ** (size + 1) * np.prod(np.min(subset, axis=0))
    return total


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("num_points", [0, 1, 2, 5, 9])
def test_hypervolume_is_that_of_inclusion_and_exclusion(dimensions, num_points):
    gains = np.random.default_rng(num_points).uniform(size=(num_points, dimensions))
    assert hypervolume(gains) == pytest.approx(_reference_hypervolume(gains), abs=1e-12)


def test_hypervolume_of_a_small_case():
    assert hypervolume(np.array([[1.0, 0.5], [0.5, 1.0], [0.5, 0.5], [np.nan, 1.0], [0.2, -1.0]])) == 0.75


def test_equal_points_count_once():
    assert hypervolume(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])) == 0.125


def growth_of(run):
    return find(read_run(run.folder)).growth


@pytest.fixture
def growing(new_run):
    """The run asks for C* alone; b ends before a, c is not feasible, d is still running."""
    run = new_run()
    write_run(
        run.folder, replace(run.record, space=run.record.space | {"metrics": [{"name": "corrected_consistency"}]})
    )
    run.baseline()
    for name, minute, corrected, accuracy in (("a", 3, 0.2, 93.5), ("b", 1, 0.0, 93.5), ("c", 2, 0.9, 10.0)):
        record = run.trial(name, corrected=corrected, accuracy=accuracy)
        write_trial(run.folder / "trials" / name, replace(record, updated=f"2026-01-02T03:0{minute}:00+00:00"))
    run.trial("d", status="running")
    return run


def test_the_frontier_grows_in_the_order_in_which_trials_ended(growing):
    growth = growth_of(growing)
    assert growth.metrics == ("accuracy", "corrected_consistency", "gini")
    assert (growth.reference, growth.best) == ((0.0, -1.0, 0.0), (100.0, 1.0, 1.0))
    assert growth.steps == tuple(
        GrowthStep(
            trial=trial,
            device_seconds=seconds,
            hypervolume=pytest.approx(volume),
            num_feasible=feasible,
            joined_frontier=joined,
        )
        for trial, seconds, volume, feasible, joined in (
            ("b", 600.0, 0.935 * 0.5 * 0.45, 1, True),
            ("c", 1200.0, 0.935 * 0.5 * 0.45, 1, False),
            ("a", 1800.0, 0.935 * 0.6 * 0.45, 2, True),
        )
    )


def test_a_metric_that_is_to_fall_grows_downwards(new_run):
    run = new_run()
    write_run(run.folder, replace(run.record, space=run.record.space | {"metrics": [{"name": "mass_half"}]}))
    run.baseline()
    run.trial("a", corrected=0.2, mass_half=0.25)
    growth = growth_of(run)
    assert (growth.reference, growth.best) == ((0.0, -1.0, 0.0, 1.0), (100.0, 1.0, 1.0, 0.0))
    assert growth.steps[-1].hypervolume == pytest.approx(0.935 * 0.6 * 0.45 * 0.75)


def test_hypervolume_never_falls(mixed_run):
    volumes = [step.hypervolume for step in growth_of(mixed_run).steps]
    assert volumes == sorted(volumes)
    assert len(volumes) == 8


def test_the_knee_is_the_trial_farthest_from_the_line_between_the_ends(new_run):
    run = new_run()
    run.baseline()
    for name, gini, corrected in (("low", 0.2, 0.6), ("knee", 0.5, 0.55), ("flat", 0.6, 0.4), ("high", 0.7, 0.1)):
        run.trial(name, gini=gini, corrected=corrected)
    assert growth_of(run).knee == "knee"


def test_two_trials_have_no_knee(new_run):
    run = new_run()
    run.baseline()
    run.trial("a", gini=0.2, corrected=0.6)
    run.trial("b", gini=0.3, corrected=0.5)
    assert growth_of(run).knee is None


def test_the_figure_names_each_metric_and_its_range(growing):
    found = find(read_run(growing.folder))
    figure = draw_growth(found.growth, bands=found.bands, title="demo")
    assert figure.axes[0].get_title(loc="left") == (
        "demo\nfrom the reference point to the best value: accuracy 0 to 100, corrected_consistency -1 to 1, "
        "gini 0 to 1\none seed: no band"
    )
