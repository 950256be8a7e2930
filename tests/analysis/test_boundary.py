import numpy as np
import pytest
from scipy.optimize import minimize

from gcc_search.analysis.boundary import find_boundary
from gcc_search.analysis.boundary_figure import draw_boundary
from gcc_search.analysis.logistic import fit_logistic
from gcc_search.results.reader import read_run


def boundary_of(builder):
    return find_boundary([trial.record for trial in read_run(builder.folder).trials])


def _reference_fit(features, outcomes, penalty):
    design = np.column_stack([np.ones(len(features)), features])

    def loss(weights):
        logits = design @ weights
        return (np.logaddexp(0, logits) - outcomes * logits).sum() + penalty / 2 * (weights[1:] ** 2).sum()

    return minimize(loss, np.zeros(design.shape[1]), method="BFGS", options={"gtol": 1e-7}).x


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_fit_is_the_minimum_that_scipy_finds(penalty, noise):
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 2))
    outcomes = features @ [2.0, -1.0] + noise * random.normal(size=60) > 0.3
    intercept, weights = fit_logistic(features, outcomes, penalty=penalty)
    assert [intercept, *weights] == pytest.approx(_reference_fit(features, outcomes, penalty), abs=1e-4)


def test_a_single_outcome_has_no_fit():
    with pytest.raises(ValueError, match="both kinds"):
        fit_logistic(np.zeros((3, 2)), np.ones(3, dtype=bool))


def random_search(run, *, failing, num_trials=30):
    random = np.random.default_rng(0)
    for index in range(num_trials):
        log_alpha, log_beta = random.uniform(-3, 1), random.uniform(-4, 0)
        status = ("collapsed", "diverged")[index % 2] if failing(log_alpha, log_beta) else "finished"
        settings = {"alpha": 10**log_alpha, "beta": 10**log_beta, "p": random.uniform(0.5, 2)}
        run.trial(f"t{index:02d}", status=status, sampled=settings, **settings)
    return run


def test_a_boundary_in_alpha_is_found_within_a_third_of_a_decade(new_run):
    run = new_run()
    for index, log_alpha in enumerate(np.linspace(-3, 1, 41)):
        status = "collapsed" if log_alpha > 0.05 else "finished"
        run.trial(f"t{index:02d}", status=status, alpha=10**log_alpha, beta=10 ** (index % 5 - 4.0))
    (panel,) = boundary_of(run).panels
    assert panel.fit == "fitted"
    assert all(abs(log_alpha) < 1 / 3 for log_alpha, _ in panel.line)


def test_on_the_line_half_are_expected_to_fail(new_run):
    boundary = boundary_of(random_search(new_run(), failing=lambda alpha, beta: alpha + beta > -1.5))
    drawn = [panel for panel in boundary.panels if panel.line]
    assert drawn
    for panel in drawn:
        for alpha, beta in panel.line:
            log_odds = panel.intercept + panel.slope_alpha * alpha + panel.slope_beta * beta
            assert log_odds == pytest.approx(0, abs=1e-9)


def test_a_random_search_is_cut_into_thirds_by_p_and_loses_no_trial(new_run):
    boundary = boundary_of(random_search(new_run(), failing=lambda alpha, beta: False))
    assert [len(panel.dots) for panel in boundary.panels] == [10, 10, 10]
    assert [panel.fit for panel in boundary.panels] == ["all trained"] * 3
    assert all(panel.line == () and panel.intercept is None for panel in boundary.panels)


def test_a_listed_p_has_a_panel_for_each_value_and_network(new_run):
    run = new_run()
    for index, (network, p) in enumerate([("resnet18", 1.0), ("resnet18", 2.0), ("resnet50", 1.0)]):
        run.trial(f"t{index}", network, alpha=1.0, beta=0.1, p=p)
    panels = [(panel.network, panel.p_low, panel.p_high, panel.fit) for panel in boundary_of(run).panels]
    assert panels == [
        ("resnet18", 1.0, 1.0, "all trained"),
        ("resnet18", 2.0, 2.0, "all trained"),
        ("resnet50", 1.0, 1.0, "all trained"),
        ("resnet50", 2.0, 2.0, "no trial"),
    ]


def test_a_few_sampled_values_of_p_share_a_panel(new_run):
    run = new_run()
    for index in range(8):
        run.trial(f"t{index}", alpha=1.0, beta=0.1, p=0.5 + 0.1 * index)
    (panel,) = boundary_of(run).panels
    assert (panel.p_low, panel.p_high, len(panel.dots)) == (0.5, pytest.approx(1.2), 8)


def test_trials_without_a_decade_are_counted_and_those_under_way_are_not(new_run):
    run = new_run()
    run.trial("off", alpha=0.0, beta=0.1)
    run.trial("running", status="running", alpha=1.0, beta=0.1)
    boundary = boundary_of(run)
    assert (boundary.panels, boundary.left_out) == ((), 1)
    assert "1 with alpha or beta 0 left out" in draw_boundary(boundary, title="demo").get_suptitle()


def test_a_panel_where_all_trained_says_so(new_run):
    run = new_run()
    run.trial("t1", alpha=1.0, beta=0.1)
    figure = draw_boundary(boundary_of(run), title="demo")
    assert figure.axes[0].get_title() == "p = 1: 0 of 1 failed\nall trained: no boundary"
