import math
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from scipy.optimize import minimize

from gcc_search.analysis.boundary import FIELD, find_boundary
from gcc_search.analysis.boundary_figure import BESIDE, STOPPED, draw_boundary
from gcc_search.analysis.boundary_standing import FEWEST_OF_A_KIND, Standing, find_standing, say_place, say_shift
from gcc_search.analysis.logistic import PENALTY, fit_logistic, refit_logistic
from gcc_search.analysis.pairing import pair_with_baselines
from gcc_search.analysis.shared_places import APART, MOST_APART, spread_apart
from gcc_search.analysis.telling import tell_boundary
from gcc_search.results.reader import read_run


def boundary_of(builder):
    return find_boundary([trial.record for trial in read_run(builder.folder).trials], ())


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


@pytest.mark.parametrize("signal", [0.0, 2.0, 50.0])
def test_refits_are_the_fits_of_repeated_rows(signal):
    random = np.random.default_rng(1)
    features = random.normal(size=(25, 2))
    outcomes = features @ [signal, -signal] + random.normal(size=25) > 0.3
    counts = random.multinomial(25, np.full(25, 1 / 25), size=20)
    intercept, weights = fit_logistic(features, outcomes)
    found = refit_logistic(features, outcomes, counts.astype(float), start=np.array([intercept, *weights]))
    for row, count in zip(found, counts, strict=True):
        again, slopes = fit_logistic(np.repeat(features, count, axis=0), np.repeat(outcomes, count))
        assert row == pytest.approx([again, *slopes], abs=1e-4)


def standing_of(places, failed, fitted, settings=None):
    standing, missing = find_standing(places, failed, fitted, range(len(places)) if settings is None else settings)
    assert missing == ""
    return standing


def test_where_a_boundary_stands_and_moves_is_read_off_its_slopes():
    places = np.array([[0.0, -3.0], [0.0, -1.0], [1.0, -2.0]])
    assert standing_of(places, np.array([True, False, False]), (1.0, 2.0, -1.0)) == Standing(
        log_beta=-2.0,
        log_alpha=-1.5,
        log_alpha_interval=None,
        shift=0.5,
        shift_interval=None,
        num_resamples=0,
        missing="fewer than 3 failed",
    )


def searched(num_trials, steepness, seed=0, *, half_at=-1.0):
    """Places over four decades each, and which failed: half at log alpha = half_at - 0.5 (log beta + 2)."""
    random = np.random.default_rng(seed)
    places = np.stack([random.uniform(-3, 1, num_trials), random.uniform(-4, 0, num_trials)], axis=1)
    log_odds = steepness * (places[:, 0] - half_at + 0.5 * (places[:, 1] + 2))
    return places, random.uniform(size=num_trials) < 1 / (1 + np.exp(-log_odds))


def test_the_intervals_hold_the_boundary_that_trials_were_drawn_from():
    places, failed = searched(200, steepness=3.0)
    found = standing_of(places, failed, (3.0 * 2, 3.0, 1.5))
    (low, high), (least, most) = found.log_alpha_interval, found.shift_interval
    truth = -1 - 0.5 * (found.log_beta + 2)
    assert low < truth < high < low + 1
    assert least < -0.5 < most < least + 0.8
    assert (found.num_resamples, found.missing) == (500, "")


def test_where_a_quarter_fails_the_boundary_stands_where_it_is_on_average(new_run):
    """Forty searches of thirty trials each: with a penalty of 1 it stands a fifth of a decade too high."""
    record, errors = new_run().trial("t", alpha=1.0, beta=1.0), []
    for seed in range(40):
        places, failed = searched(30, steepness=20.0, seed=seed, half_at=0.0)
        (panel,) = find_boundary([_at(record, *row) for row in zip(places, failed, strict=True)], ()).panels
        errors.append(panel.standing.log_alpha + 0.5 * (panel.standing.log_beta + 2))
    # 0, and three standard errors.
    assert abs(np.mean(errors)) < 0.07


def _at(record, place, failed):
    log_alpha, log_beta = place
    explanation = record.settings["explanation"] | {"alpha": 10**log_alpha, "beta": 10**log_beta}
    status = "collapsed" if failed else "finished"
    return replace(record, status=status, settings=record.settings | {"explanation": explanation})


def test_seeds_of_the_same_settings_narrow_no_interval():
    """Each trial three times over says what it says once."""
    places, failed = searched(60, steepness=20.0)
    once = standing_of(places, failed, (40.0, 20.0, 10.0))
    thrice = [np.repeat(rows, 3, axis=0) for rows in (places, failed)]
    as_seeds = standing_of(*thrice, (40.0, 20.0, 10.0), np.repeat(np.arange(60), 3))
    as_trials = standing_of(*thrice, (40.0, 20.0, 10.0))
    widths = [np.ptp(found.log_alpha_interval) for found in (once, as_seeds, as_trials)]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)
    assert widths[2] < 0.7 * widths[0]


def test_trials_that_differ_in_the_seed_alone_are_drawn_together(new_run):
    run = new_run()
    for index, (place, failed) in enumerate(zip(*searched(30, steepness=20.0), strict=True)):
        for seed in range(2):
            alpha, beta = (10**place).tolist()
            status = "collapsed" if failed else "finished"
            run.trial(f"t{index:02d}-{seed}", status=status, alpha=alpha, beta=beta, seed=seed)
    (panel,) = boundary_of(run).panels
    places = np.array([(dot.log_alpha, dot.log_beta) for dot in panel.dots])
    failed = np.array([dot.status == "collapsed" for dot in panel.dots])
    fitted = (panel.intercept, panel.slope_alpha, panel.slope_beta)
    assert panel.standing == standing_of(places, failed, fitted, [dot.trial.split("-")[0] for dot in panel.dots])
    assert panel.standing != standing_of(places, failed, fitted)


def test_three_settings_of_each_kind_are_needed_however_many_seeds_they_have():
    places = np.array([[-3 + index / 5, index % 3] for index in range(20)])
    failed = np.arange(20) >= 16
    found = standing_of(np.repeat(places, 2, axis=0), np.repeat(failed, 2), (0.0, 4.0, 0.0), np.arange(40) // 4)
    assert found.missing == "fewer than 3 settings failed"


def test_of_one_trial_a_setting_the_intervals_are_those_of_trials():
    """Written down before settings were drawn."""
    found = standing_of(*searched(60, steepness=3.0), (6.0, 3.0, 1.5))
    # Another CPU may sum in another order.
    assert found.log_alpha_interval == pytest.approx((-1.3540407339449652, -0.8904345216333239), abs=1e-9)
    assert found.shift_interval == pytest.approx((-0.6132903151796417, -0.16598886279339878), abs=1e-9)


def test_more_trials_make_a_narrower_interval():
    def width(num_trials):
        low, high = standing_of(*searched(num_trials, steepness=3.0), (6.0, 3.0, 1.5)).log_alpha_interval
        return high - low

    assert width(400) < 0.7 * width(60)


def test_without_a_clear_effect_of_alpha_there_is_no_interval():
    places, failed = searched(40, steepness=0.0)
    found = standing_of(places, failed, (0.0, 0.1, 0.0))
    assert (found.log_alpha_interval, found.missing) == (None, "effect of alpha unclear")


def test_where_failing_falls_with_alpha_no_boundary_stands():
    places, failed = searched(4, steepness=0.0)
    assert find_standing(places, failed, (0.0, -1.0, 1.0), range(4)) == (None, "failing does not rise with alpha")


@pytest.mark.parametrize("num_failed", [FEWEST_OF_A_KIND - 1, FEWEST_OF_A_KIND])
def test_three_of_each_kind_are_needed_for_an_interval(num_failed):
    places = np.array([[-3 + index / 5, index % 3] for index in range(20)])
    failed = np.arange(20) >= 20 - num_failed
    assert bool(standing_of(places, failed, (0.0, 4.0, 0.0)).missing) == (num_failed < FEWEST_OF_A_KIND)


def test_a_boundary_is_told_in_words():
    found = Standing(
        log_beta=-2.0,
        log_alpha=-0.5,
        log_alpha_interval=(-0.7, 0.02),
        shift=-0.42,
        shift_interval=(-0.6, 0.1),
        num_resamples=500,
        missing="",
    )
    assert say_place(found) == "half fail at alpha 0.32 [0.2, 1]"
    assert say_shift(found) == "moves -0.42 [-0.60, +0.10]"


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


def test_a_place_outside_the_axes_is_said_to_be_there(new_run):
    run = new_run()
    for index in range(24):
        status = "collapsed" if index in (3, 20) else "finished"
        run.trial(f"t{index:02d}", status=status, alpha=10 ** (index / 24), beta=10 ** (index % 5 - 4.0))
    boundary = boundary_of(run)
    title = draw_boundary(boundary, title="demo").axes[0].get_title()
    told = "\n".join(tell_boundary(boundary))
    assert all(re.search(r"half fail at alpha \S+.*, outside the axes", text) for text in (title, told))


# The logarithm of 3, thirteen times over, has a standard deviation above 0.
@pytest.mark.parametrize(("alpha", "num_trials"), [(3.0, 13), (0.1, 12)])
def test_a_boundary_needs_more_than_one_alpha(new_run, alpha, num_trials):
    run = new_run()
    for index in range(num_trials):
        status = "collapsed" if index > num_trials / 2 and index % 3 else "finished"
        run.trial(f"t{index:02d}", status=status, alpha=alpha, beta=10 ** (3 * index / num_trials - 2))
    boundary = boundary_of(run)
    (panel,) = boundary.panels
    assert (panel.slope_alpha, panel.standing) == (0.0, None)
    title = draw_boundary(boundary, title="demo").axes[0].get_title()
    assert title.endswith("alpha has one value: no boundary along it")


def test_a_boundary_needs_more_than_one_beta_to_move(new_run):
    run = new_run()
    for index, log_alpha in enumerate(np.linspace(-2, 1, 24)):
        status = "collapsed" if log_alpha > 0 and index % 5 else "finished"
        run.trial(f"t{index:02d}", status=status, alpha=10**log_alpha, beta=0.1)
    (panel,) = boundary_of(run).panels
    assert panel.standing.log_alpha_interval is not None
    assert (panel.standing.shift, panel.standing.shift_interval) == (None, None)
    assert say_shift(panel.standing) == "no shift: beta has one value"


def test_trials_that_were_stopped_early_move_no_boundary(new_run):
    """Early stopping ends trials that had not failed, never failed ones."""
    run = new_run()
    for index, (place, failed) in enumerate(zip(*searched(60, steepness=3.0), strict=True)):
        alive = "stopped" if index % 3 else "finished"
        alpha, beta = (10**place).tolist()
        run.trial(f"t{index:02d}", status="collapsed" if failed else alive, alpha=alpha, beta=beta)
    records = [trial.record for trial in read_run(run.folder).trials]
    undisturbed = [replace(record, status="finished") if record.status == "stopped" else record for record in records]
    (panel,), (expected,) = find_boundary(records, ()).panels, find_boundary(undisturbed, ()).panels
    assert panel.standing == expected.standing
    assert (panel.line, panel.field) == (expected.line, expected.field)
    statuses = [dot.status for dot in panel.dots]
    assert statuses.count("stopped") > 15


def test_the_figure_says_how_trials_that_were_stopped_early_are_counted(new_run):
    run = new_run()
    for index, status in enumerate(["finished", "stopped", "stopped", "collapsed"]):
        run.trial(f"t{index}", status=status, alpha=10.0**index, beta=0.1)
    boundary = boundary_of(run)
    figure = draw_boundary(boundary, title="demo")
    assert figure.axes[0].get_title().startswith("p = 1: 1 of 4 failed, 2 stopped\n")
    assert figure.get_suptitle().endswith(f"\n{STOPPED}")
    assert "stopped early: had not failed" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert STOPPED in tell_boundary(boundary)


def test_odds_are_those_of_a_fit_in_units_of_the_trials_spread(new_run):
    """By scipy, of a panel in which alpha and beta spread over other than one decade."""
    panel = boundary_of(random_search(new_run(), failing=lambda alpha, beta: alpha + beta / 2 > -1.5)).panels[0]
    places = np.array([(dot.log_alpha, dot.log_beta) for dot in panel.dots])
    failed = np.array([dot.status != "finished" for dot in panel.dots])
    centre, spread = places.mean(0), places.std(0)
    assert min(abs(spread - 1)) > 0.01
    intercept, *weights = _reference_fit((places - centre) / spread, failed, PENALTY)
    slopes = np.array(weights) / spread
    assert (panel.slope_alpha, panel.slope_beta) == pytest.approx(tuple(slopes), abs=1e-3)
    assert panel.intercept == pytest.approx(intercept - slopes @ centre, abs=1e-3)


def test_on_the_line_half_are_expected_to_fail(new_run):
    boundary = boundary_of(random_search(new_run(), failing=lambda alpha, beta: alpha + beta > -1.5))
    drawn = [panel for panel in boundary.panels if panel.line]
    assert drawn
    for panel in drawn:
        for alpha, beta in panel.line:
            log_odds = panel.intercept + panel.slope_alpha * alpha + panel.slope_beta * beta
            assert log_odds == pytest.approx(0, abs=1e-9)


def test_the_field_is_the_fitted_probability_over_the_axes(new_run):
    boundary = boundary_of(random_search(new_run(), failing=lambda alpha, beta: alpha > -1))
    panel = boundary.panels[0]
    assert (len(panel.field), {len(row) for row in panel.field}) == (FIELD, {FIELD})
    for row, log_beta in ((0, boundary.beta_range[0]), (-1, boundary.beta_range[1])):
        for column, log_alpha in ((0, boundary.alpha_range[0]), (-1, boundary.alpha_range[1])):
            log_odds = panel.intercept + panel.slope_alpha * log_alpha + panel.slope_beta * log_beta
            assert panel.field[row][column] == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-6)


def test_a_trained_dot_has_its_accuracy_tradeoff_and_a_failed_one_none(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    run.trial("t1", alpha=1.0, beta=0.1, accuracy=91.5)
    run.trial("t2", alpha=1.0, beta=0.1, accuracy=20.0, status="collapsed")
    read = read_run(run.folder)
    boundary = find_boundary([trial.record for trial in read.trials], pair_with_baselines(read))
    assert [dot.tradeoff_points for dot in boundary.panels[0].dots] == [2.5, None]
    assert boundary.tradeoff_limit == 2.5


def test_a_random_search_is_cut_into_thirds_by_p_and_loses_no_trial(new_run):
    boundary = boundary_of(random_search(new_run(), failing=lambda alpha, beta: False))
    assert [len(panel.dots) for panel in boundary.panels] == [10, 10, 10]
    assert [panel.fit for panel in boundary.panels] == ["none failed"] * 3
    assert all(panel.line == () and panel.intercept is None for panel in boundary.panels)


def test_a_listed_p_has_a_panel_for_each_value_and_network(new_run):
    run = new_run()
    for index, (network, p) in enumerate([("resnet18", 1.0), ("resnet18", 2.0), ("resnet50", 1.0)]):
        run.trial(f"t{index}", network, alpha=1.0, beta=0.1, p=p)
    panels = [(panel.network, panel.p_low, panel.p_high, panel.fit) for panel in boundary_of(run).panels]
    assert panels == [
        ("resnet18", 1.0, 1.0, "none failed"),
        ("resnet18", 2.0, 2.0, "none failed"),
        ("resnet50", 1.0, 1.0, "none failed"),
        ("resnet50", 2.0, 2.0, "no trial"),
    ]


def test_betas_of_two_units_share_no_panel(new_run):
    run = new_run()
    for index in range(24):
        form, beta = (("searched", 0.05), ("paper", 1e-6))[index % 2]
        log_alpha = index / 8 - 2
        status = "collapsed" if log_alpha > 0 and index % 5 else "finished"
        explanation = {
            "alpha": 10**log_alpha,
            "beta": beta * (1 + index),
            "p": 1.0,
            "distance": "ssim",
            "sparsity": form,
        }
        run.trial(f"t{index:02d}", status=status, settings={"explanation": explanation})
    boundary = boundary_of(run)
    assert [(panel.sparsity, len(panel.dots)) for panel in boundary.panels] == [("paper", 12), ("searched", 12)]
    labels = [axes.get_ylabel() for axes in draw_boundary(boundary, title="demo").axes[:2]]
    assert labels == [f"resnet18\nlog10 beta (sparsity: {form})" for form in ("paper", "searched")]
    told = [line for line in tell_boundary(boundary) if "half fail at" in line]
    beginnings = [f"  resnet18, p = 1, beta (sparsity: {form}) " for form in ("paper", "searched")]
    assert all(line.startswith(beginning) for line, beginning in zip(told, beginnings, strict=True))


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


def test_a_panel_where_none_failed_says_so(new_run):
    run = new_run()
    run.trial("t1", alpha=1.0, beta=0.1)
    figure = draw_boundary(boundary_of(run), title="demo")
    assert figure.axes[0].get_title() == "p = 1: 0 of 1 failed\nnone failed: no boundary"


@pytest.mark.parametrize("num_marks", [1, 2, 3, 6, 7, 20])
def test_marks_that_share_a_place_stand_beside_each_other_and_the_others_stay(num_marks):
    offsets = spread_apart(["alone", *["shared"] * num_marks, "another"])
    assert offsets == spread_apart(["alone", *["shared"] * num_marks, "another"])
    assert offsets[0] == offsets[-1] == (0, 0)
    shared = offsets[1:-1]
    assert num_marks > 1 or shared == [(0, 0)]
    apart = [math.dist(one, other) for index, one in enumerate(shared) for other in shared[:index]]
    assert all(distance > 0.99 * APART for distance in apart)
    assert all(math.hypot(*offset) < APART * math.sqrt(num_marks) for offset in shared)


def test_two_stand_left_and_right_of_their_place_and_up_to_six_on_one_ring_around_it():
    assert spread_apart(["shared"] * 2) == [(-APART / 2, 0), (APART / 2, 0)]
    for num_marks in (3, 6):
        ring = spread_apart(["shared"] * num_marks)
        radius = math.hypot(*ring[0])
        assert [math.hypot(*offset) for offset in ring] == pytest.approx([radius] * num_marks)
        assert math.dist(ring[0], ring[1]) == pytest.approx(APART, abs=1e-5)


def test_of_thousands_at_one_place_the_marks_stay_near_it():
    offsets = spread_apart(["shared"] * 3000)
    assert len(set(offsets)) == MOST_APART
    assert all(math.hypot(*offset) < 5 * APART for offset in offsets)


def drawn_marks(builder) -> tuple[Figure, list[tuple[float, float]]]:
    """The figure, and where each mark stands in it, in pixels."""
    figure = draw_boundary(boundary_of(builder), title="demo")
    FigureCanvasAgg(figure).draw()
    return figure, [
        tuple(collection.get_offset_transform().transform(place).round(3))
        for collection in figure.axes[0].collections
        if isinstance(collection, PathCollection)
        for place in collection.get_offsets()
    ]


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_trials_that_differ_in_the_seed_alone_are_all_seen_and_the_figure_says_how(new_run, num_seeds):
    run = new_run()
    for seed in range(num_seeds):
        for index, status in enumerate(("finished", "collapsed", "stopped")):
            run.trial(f"t{index}-{seed}", status=status, alpha=10.0**index, beta=0.1, seed=seed)
    figure, drawn = drawn_marks(run)
    assert len(drawn) == len({*drawn}) == 3 * num_seeds
    assert (BESIDE in figure.get_suptitle()) == (num_seeds > 1)


def test_two_trials_of_one_place_are_drawn_beside_each_other_in_points(new_run):
    run = new_run()
    run.trial("alone", alpha=10.0, beta=0.1)
    for seed in (0, 1):
        run.trial(f"t{seed}", alpha=1.0, beta=0.1, seed=seed)
    figure, drawn = drawn_marks(run)
    left, right, _ = sorted(drawn)
    assert right[0] - left[0] == pytest.approx(APART * figure.dpi / 72, abs=0.01)
    assert right[1] == left[1]
    assert BESIDE in figure.get_suptitle()
