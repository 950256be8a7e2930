from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gcc_search.analysis.bands import PLACES, find_bands
from gcc_search.analysis.bands_figure import say_band
from gcc_search.analysis.feasibility import read_question
from gcc_search.analysis.findings import find
from gcc_search.analysis.frontier_figure import draw_frontier
from gcc_search.analysis.growth_figure import draw_growth
from gcc_search.analysis.pairing import Pair
from gcc_search.analysis.several import read_runs
from gcc_search.analysis.telling import tell_bands
from gcc_search.objectives import METRICS
from gcc_search.results.reader import read_run
from gcc_search.results.writer import write_run
from tests.analysis.conftest import RunBuilder

SPACE = {"metrics": [{"name": "gini"}], "constraints": []}
NO_SEEDS = ("one seed: no band", "one seed: no band")


def add(run: RunBuilder, seed: int, places, *, network="resnet18") -> None:
    """A trial of `seed` for each (Gini, C*), in this order, ten minutes each."""
    key = f"{network}-base-{seed}"
    run.baseline(network, key=key, seed=seed)
    for index, (gini, corrected) in enumerate(places):
        name = f"{network}-{seed}-{index}"
        run.trial(name, network, seed=seed, baseline=key, gini=gini, corrected=corrected)


def bands_of(run: RunBuilder):
    return find(read_run(run.folder)).bands


@pytest.fixture
def two_seeds(new_run):
    """The third trial of seed 1 has no counterpart within the time that seed 0 took."""
    run = new_run()
    add(run, 0, [(0.4, 0.5), (0.6, 0.3)])
    add(run, 1, [(0.4, 0.7), (0.5, 0.2), (0.9, 0.9)])
    return run


def test_attainment_is_the_best_consistency_at_least_so_sparse_within_equal_budgets(two_seeds):
    bands = bands_of(two_seeds)
    band = bands.attainment
    assert (bands.device_seconds, band.seeds, len(band.places)) == (1200.0, (0, 1), PLACES)
    assert (band.places[0], band.places[-1]) == (0.4, 0.5)
    assert [(curve[0], curve[1], curve[-1]) for curve in band.curves] == [(0.5, 0.3, 0.3), (0.7, 0.2, 0.2)]
    assert (band.mean[0], band.mean[-1]) == pytest.approx((0.6, 0.25))


def test_the_band_is_students_interval_at_each_place(two_seeds):
    band = bands_of(two_seeds).attainment
    for place in (0, -1):
        found = [curve[place] for curve in band.curves]
        expected = stats.t.interval(0.95, 1, loc=np.mean(found), scale=stats.sem(found))
        assert (band.low[place], band.high[place]) == pytest.approx(expected)


@pytest.mark.parametrize(("num_seeds", "num_lines"), [(2, 4), (3, 5), (4, 2)])
def test_few_seeds_are_drawn_one_by_one_in_axes_that_their_wide_band_does_not_stretch(new_run, num_seeds, num_lines):
    """Lines: the edge or the growth of all, the mean, and those of single seeds."""
    run = new_run()
    for seed in range(num_seeds):
        add(run, seed, [(0.4, 0.5 + seed / 10), (0.6, 0.3)])
    found = find(read_run(run.folder))
    frontier = draw_frontier(found.frontier, bands=found.bands, knee=None, title="demo")
    growth = draw_growth(found.growth, bands=found.bands, title="demo")
    for figure in (frontier, growth):
        assert len(figure.axes[0].lines) == num_lines
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("the seeds' own" in labels) == (num_seeds < 4)
        assert "band of the mean: 95 %, Student's t over seeds" in labels
    assert growth.axes[0].get_ylim() == (0, pytest.approx(1.2 * found.growth.steps[-1].hypervolume))


def test_hypervolume_of_each_seed_is_over_its_own_device_time(two_seeds):
    band = bands_of(two_seeds).growth
    assert (band.places[0], band.places[50], band.places[-1]) == (0.0, 600.0, 1200.0)
    first, second = 0.935 * np.array([[0.4 * 0.75, 0.4 * 0.75 + 0.2 * 0.65], [0.4 * 0.85, 0.4 * 0.85 + 0.1 * 0.6]])
    assert [(curve[0], curve[49], curve[50], curve[-1]) for curve in band.curves] == [
        pytest.approx((0.0, 0.0, *first)),
        pytest.approx((0.0, 0.0, *second)),
    ]


def test_one_seed_has_no_band_and_the_figure_says_so(new_run):
    run = new_run()
    add(run, 0, [(0.4, 0.5), (0.6, 0.3)])
    found = find(read_run(run.folder))
    assert (found.bands.attainment, found.bands.growth) == (None, None)
    assert (found.bands.attainment_missing, found.bands.growth_missing) == NO_SEEDS
    figure = draw_frontier(found.frontier, bands=found.bands, knee=None, title="demo")
    assert figure.axes[0].get_title(loc="left").endswith("\none seed: no band")


def test_seeds_of_different_networks_are_not_compared(new_run):
    run = new_run()
    add(run, 0, [(0.4, 0.5)])
    add(run, 1, [(0.4, 0.5)], network="resnet50")
    assert bands_of(run).growth_missing == "seeds have different networks: no band"


def test_a_seed_without_a_feasible_trial_grows_to_nothing_and_attains_nothing(two_seeds):
    two_seeds.baseline(key="base-2", seed=2)
    two_seeds.trial("bad", seed=2, baseline="base-2", accuracy=10.0)
    bands = bands_of(two_seeds)
    assert (bands.attainment, bands.attainment_missing) == (None, "no feasible trial of seed 2: no band over seeds")
    assert bands.growth.curves[2] == (0.0,) * PLACES


def test_a_seed_that_has_only_begun_leaves_no_band(two_seeds):
    two_seeds.baseline(key="base-2", seed=2)
    two_seeds.trial("begun", seed=2, baseline="base-2", status="running")
    assert bands_of(two_seeds).growth_missing == "no trial of seed 2 has ended: no band over seeds"


@pytest.mark.parametrize("method", ["bayes", "random", "grid", "points"])
def test_seeds_that_a_learning_sampler_dealt_out_have_no_band_and_figures_and_words_say_why(two_seeds, method):
    write_run(two_seeds.folder, replace(two_seeds.record, space=two_seeds.record.space | {"method": method}))
    found = find(read_run(two_seeds.folder))
    has_none = method == "bayes"
    missing = "seeds shared one sampler: no interval" if has_none else ""
    assert (found.bands.attainment_missing, found.bands.growth_missing) == (missing, missing)
    assert (found.bands.attainment is None, found.bands.growth is None) == (has_none, has_none)
    frontier = draw_frontier(found.frontier, bands=found.bands, knee=None, title="demo")
    growth = draw_growth(found.growth, bands=found.bands, title="demo")
    for figure in (frontier, growth):
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert any("band" in label or "seed" in label for label in labels) != has_none
        told = figure.axes[0].get_title(loc="left").splitlines()[-1]
        assert told == (missing or say_band(found.bands))
    assert (tell_bands(found.bands) == [f"hypervolume: {missing}"]) == has_none


@pytest.mark.parametrize(
    ("seeds", "methods", "has_band"),
    [
        ({"first": [0], "second": [1]}, {"first": "bayes", "second": "bayes"}, True),
        ({"first": [0, 1], "second": [2]}, {"first": "random", "second": "bayes"}, True),
        ({"first": [0, 1], "second": [2]}, {"first": "bayes", "second": "random"}, False),
    ],
)
def test_searches_of_one_seed_each_share_no_sampler(tmp_path, seeds, methods, has_band):
    runs = [RunBuilder(tmp_path / name) for name in seeds]
    for run in runs:
        name = run.folder.name
        write_run(run.folder, replace(run.record, space=run.record.space | {"method": methods[name]}))
        for seed in seeds[name]:
            add(run, seed, [(0.4, 0.5 + seed / 10), (0.6, 0.3)])
    bands = find(read_runs([run.folder for run in runs])).bands
    assert (bands.growth is not None) == has_band


def test_the_budget_is_told_in_hours(two_seeds):
    assert say_band(bands_of(two_seeds)) == "band: the first 0.333 device hours of each seed, the shortest's total"


places = st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    run = RunBuilder(tmp_path_factory.mktemp("runs") / "demo")
    run.record.space.update(SPACE)
    return run.baseline(), read_question(run.record)


@settings(max_examples=20, deadline=None)
@given(st.lists(places, min_size=2, max_size=4))
def test_bands_hold_their_mean_and_curves_only_fall_over_gini_and_rise_over_time(template, by_seed):
    baseline, question = template
    assert question.metrics == (METRICS["accuracy"], METRICS["corrected_consistency"], METRICS["gini"])
    records = [
        replace(
            baseline,
            id=f"{seed}-{index}",
            settings=baseline.settings | {"seed": seed},
            validation={"accuracy_points": 90.0, "gini": gini, "corrected_consistency": corrected},
        )
        for seed, ours in enumerate(by_seed)
        for index, (gini, corrected) in enumerate(ours)
    ]
    pairs = [Pair(trial=record, baseline=baseline) for record in records]
    bands = find_bands(records, pairs, question, SPACE)
    assert bands == find_bands(records[::-1], pairs, question, SPACE)
    for band, sign in ((bands.attainment, -1), (bands.growth, 1)):
        low, mean, high = (np.array(asdict(band)[name]) for name in ("low", "mean", "high"))
        assert (low <= mean + 1e-12).all()
        assert (mean <= high + 1e-12).all()
        assert (sign * np.diff(band.curves, axis=1) >= -1e-12).all()
