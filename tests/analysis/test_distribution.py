import numpy as np
import pytest
from scipy import stats

from gcc_search.analysis.distribution import Distribution
from gcc_search.analysis.distribution_figure import draw_consistency
from gcc_search.analysis.findings import find
from gcc_search.results.reader import read_run


def panels_of(builder):
    return find(read_run(builder.folder)).consistencies


def test_a_panel_of_a_small_case_is_the_one_counted_by_hand(new_run):
    run = new_run()
    run.baseline(images={"consistency": np.array([0.89, 0.93, 0.97, 0.98]), "chance": np.array([0.2, 0.2, 0.4, 0.4])})
    run.trial("t1", images={"consistency": np.full(4, 1.0), "chance": np.full(4, 0.5)})
    (panel,) = panels_of(run)
    assert (panel.data, panel.network, panel.edges) == ("shapes", "resnet18", (0.88, 0.92, 0.96, 1.0))
    assert panel.baseline == Distribution(
        trial="resnet18-base",
        num_images=4,
        mean=pytest.approx(0.9425),
        sd=pytest.approx(np.std([0.89, 0.93, 0.97, 0.98], ddof=1)),
        chance=pytest.approx(0.3),
        density=pytest.approx((6.25, 6.25, 12.5)),
    )
    assert (panel.trained.mean, panel.trained.sd, panel.trained.density) == (1.0, 0.0, pytest.approx((0, 0, 25)))


def test_densities_are_those_of_scipys_histogram_and_sum_to_one(new_run):
    run, random = new_run(), np.random.default_rng(0)
    before, after = random.uniform(-0.2, 1, 300), random.uniform(0.3, 1, 300)
    run.baseline(images={"consistency": before})
    run.trial("t1", images={"consistency": after})
    (panel,) = panels_of(run)
    for values, found in ((before, panel.baseline), (after, panel.trained)):
        expected = stats.rv_histogram(np.histogram(values, bins=panel.edges), density=False)
        middles = (np.array(panel.edges[1:]) + np.array(panel.edges[:-1])) / 2
        assert found.density == pytest.approx(expected.pdf(middles))
        assert sum(found.density) * 0.04 == pytest.approx(1)


def test_every_network_has_a_panel_over_the_same_bins(mixed_run):
    panels = panels_of(mixed_run)
    assert [panel.network for panel in panels] == ["resnet18", "resnet50"]
    assert panels[0].edges == panels[1].edges


def test_the_chosen_trial_is_drawn_with_mean_deviation_and_chance(mixed_run):
    figure = draw_consistency(panels_of(mixed_run), title="demo")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == [
        "baseline: resnet18-base\n0.5000 ± 0.0000 (sd)\nchance 0.5000, 6 images",
        "ours: t2\n0.5000 ± 0.0000 (sd)\nchance 0.5000, 6 images",
    ]
    assert figure.axes[0].get_legend().get_title().get_text() == "resnet18 on shapes"


def test_a_trial_without_images_has_no_panel_and_the_figure_says_so(new_run):
    run = new_run()
    run.baseline()
    run.trial("t1")
    (run.folder / "trials/t1/images.parquet").unlink()
    assert panels_of(run) == ()
    figure = draw_consistency((), title="demo")
    assert figure.axes[0].texts[0].get_text() == "no feasible trial with images.parquet"
