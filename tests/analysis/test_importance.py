import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from gcc_search.analysis.feasibility import Question
from gcc_search.analysis.findings import find
from gcc_search.analysis.importance import Importance, find_importances
from gcc_search.analysis.importance_figure import draw_importance
from gcc_search.analysis.importance_panels import ImportancePanel, importance_panels
from gcc_search.analysis.printing import IMPORTANCE_HEADING, print_findings
from gcc_search.objectives import METRICS
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
        sampled = {"alpha": alpha, "beta": beta, "distance": distance}
        run.trial(f"t{index:02d}", sampled=sampled, settings={"explanation": {"p": 1.0, **sampled}}, **measured)
        values.append((alpha, beta, distance, measured["gini"], measured["corrected"]))
    return run, list(zip(*values, strict=True))


def test_betas_of_two_units_are_two_parameters(new_run):
    """In each unit Gini rises with beta; the paper's, smaller by far, has the higher Gini."""
    run = new_run()
    run.baseline()
    for index in range(20):
        form, unit, gini = (("searched", 1.0, 0.3), ("paper", 1 / 50_176, 0.6))[index % 2]
        beta = unit * (1 + index)
        explanation = {"alpha": 1.0, "beta": beta, "p": 1.0, "distance": "ssim", "sparsity": form}
        sampled = {"beta": beta, "sparsity": form}
        run.trial(f"t{index:02d}", gini=gini + index / 100, sampled=sampled, settings={"explanation": explanation})
    found = importances_of(run)
    for name in ("beta (sparsity: paper)", "beta (sparsity: searched)"):
        assert (found["gini", name].num_trials, found["gini", name].correlation) == (10, pytest.approx(1.0))
    assert ("gini", "beta") not in found
    assert found["gini", "sparsity"].num_trials == 20


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


QUESTION = Question(metrics=(METRICS["gini"],), constraints=())


def a_trial(record, name, sampled, gini, *, seed=0):
    settings = {"explanation": {name: value for name, value in sampled.items() if name != "seed"}, "seed": seed}
    return replace(
        record, id=name, sampled=sampled, validation={"gini": gini}, settings=record.settings | settings, network="net"
    )


def test_a_seed_is_a_choice(new_run):
    """The middle one of three is best: no rank correlation sees it."""
    record = new_run().trial("t")
    records = [
        a_trial(record, f"t{index}", {"alpha": index, "seed": seed}, (0.3, 0.6, 0.3)[seed] + index / 1e3, seed=seed)
        for index in range(30)
        for seed in [index % 3]
    ]
    found = {item.parameter: item for item in find_importances(records, QUESTION)}["seed"]
    assert (found.correlation, found.share > 0.6, found.p_value < 0.001) == (None, True, True)


@pytest.fixture
def nothing_matters(new_run):
    """Draws twenty trials of which no parameter explains anything."""
    record = new_run().trial("t")

    def draw(random, *, num_parameters=4):
        drawn = random.uniform(size=(20, num_parameters + 1)).tolist()
        return [
            a_trial(record, f"t{index}", {f"q{n}": x for n, x in enumerate(others)}, gini)
            for index, (gini, *others) in enumerate(drawn)
        ]

    return draw


def test_the_largest_share_of_parameters_that_do_nothing_is_seldom_significant(nothing_matters):
    random, runs = np.random.default_rng(0), 200
    largest = [
        max(find_importances(nothing_matters(random), QUESTION), key=lambda item: item.share) for _ in range(runs)
    ]
    alone = sum(item.p_value < 0.05 for item in largest)
    family = sum(item.family_p_value < 0.05 for item in largest)
    # 1 - 0.95^4 = 0.185 of the lines; 0.05 and three standard errors.
    assert alone > 0.12 * runs
    assert family < 0.096 * runs


@pytest.fixture
def under_ten_seeds(new_run):
    """Draws thirty trials, each under one of ten seeds that do nothing; alpha decides some of Gini."""
    record = new_run().trial("t")

    def draw(random):
        return [
            a_trial(record, f"t{n}", {"alpha": alpha, "seed": seed}, 2.0 * alpha + random.normal(), seed=seed)
            for n, alpha in enumerate(random.uniform(size=30).tolist())
            for seed in [int(random.integers(10))]
        ]

    return draw


def test_seeds_that_do_nothing_do_not_hide_what_matters(under_ten_seeds):
    """Chance gives ten seeds 9 / 29 of the ranks, as much as alpha explains: by shares alone hardly one is found."""
    random, searches = np.random.default_rng(0), 20
    found = [item for _ in range(searches) for item in find_importances(under_ten_seeds(random), QUESTION)]
    alphas = [item for item in found if item.parameter == "alpha"]
    # Two parameters: the family's is at most about twice the parameter's own.
    assert all(item.p_value <= item.family_p_value < 2 * item.p_value + 0.02 for item in alphas)
    assert sum(item.family_p_value < 0.05 for item in alphas) > 0.5 * searches


def test_the_smallest_p_value_is_told_first(new_run):
    """Seeds that do nothing explain more of Gini than alpha does, by being ten."""
    run, random = new_run(), np.random.default_rng(28)
    for seed in range(10):
        run.baseline(key=f"base-{seed}", seed=seed)
    for index in range(30):
        alpha, seed = random.uniform(), index % 10
        values = {"seed": seed, "baseline": f"base-{seed}", "alpha": alpha, "gini": 2.0 * alpha + random.normal()}
        run.trial(f"t{index:02d}", sampled={"alpha": alpha, "seed": seed}, **values)
    found, console = importances_of(run), Console(file=io.StringIO(), width=100)
    alpha, seed = found["gini", "alpha"], found["gini", "seed"]
    assert (alpha.share < seed.share, alpha.family_p_value < 0.05 < seed.p_value) == (True, True)
    print_findings(find(read_run(run.folder)), [Path("analysis/frontier.png")], console)
    assert f"resnet18, gini: alpha {alpha.share:.0%} (p = {alpha.family_p_value:.2g}" in console.file.getvalue()


def test_one_setting_under_eight_seeds_has_no_importances(new_run):
    run, random = new_run(), np.random.default_rng(0)
    for seed in range(8):
        run.baseline(key=f"base-{seed}", seed=seed)
        values = {"seed": seed, "baseline": f"base-{seed}", "gini": random.uniform(), "sampled": {"seed": seed}}
        run.trial(f"t{seed}", **values)
    found, console = find(read_run(run.folder)), Console(file=io.StringIO(), width=100)
    print_findings(found, [Path("analysis/frontier.png")], console)
    axes = draw_importance(found.importance_panels, title="demo").axes[0]
    assert found.importances == ()
    assert "1 settings" not in console.file.getvalue()
    assert axes.get_title(loc="left") == "resnet18, 8 finished trials of 1 setting"
    assert axes.texts[0].get_text() == "1 setting under several seeds: nothing can be said with fewer than 6"


def test_fewer_than_six_settings_say_nothing_of_the_seed_either(under_three_seeds):
    records = under_three_seeds(np.random.default_rng(0), by_seed=(0.0, 0.5, 0.2))
    assert find_importances(records[: 5 * 3], QUESTION) == ()
    assert {item.parameter for item in find_importances(records[: 6 * 3], QUESTION)} == {"alpha", "beta", "seed"}


@pytest.mark.parametrize("name", ["seed", "distance"])
def test_a_choice_of_which_none_was_made_twice_has_no_importance(new_run, name):
    record = new_run().trial("t")
    records = [
        a_trial(record, f"t{n}", {"alpha": n, name: n if name == "seed" else f"d{n}"}, n * 5 % 8, seed=n)
        for n in range(8)
    ]
    assert [item.parameter for item in find_importances(records, QUESTION)] == ["alpha"]


def test_a_single_parameter_is_its_own_family(nothing_matters):
    (found,) = find_importances(nothing_matters(np.random.default_rng(0), num_parameters=1), QUESTION)
    assert found.family_p_value == found.p_value


@pytest.fixture
def under_three_seeds(new_run):
    """Draws fifteen settings, each under three seeds: beta alone decides Gini, and `by_seed` what each seed adds."""
    record = new_run().trial("t")

    def draw(random, *, by_seed=(0.0, 0.0, 0.0)):
        return [
            a_trial(record, f"t{number}-{seed}", {"alpha": alpha, "beta": beta, "seed": seed}, gini, seed=seed)
            for number, (alpha, beta) in enumerate(random.uniform(size=(15, 2)).tolist())
            for seed in range(3)
            for gini in [beta + by_seed[seed] + 0.01 * random.normal()]
        ]

    return draw


def test_settings_under_several_seeds_are_no_further_evidence(under_three_seeds):
    """Counted trial by trial, a quarter of the searches would find that alpha, which does nothing, matters."""
    random, searches = np.random.default_rng(0), 100
    found = [find_importances(under_three_seeds(random), QUESTION) for _ in range(searches)]
    alphas = [item for items in found for item in items if item.parameter == "alpha"]
    assert {(item.num_trials, item.num_settings) for item in alphas} == {(45, 15)}
    # 0.05 and three standard errors.
    assert sum(item.p_value < 0.05 for item in alphas) < 0.115 * searches


def test_the_share_over_seeds_is_that_of_their_means(under_three_seeds):
    records = under_three_seeds(np.random.default_rng(0), by_seed=(0.0, 0.5, 0.2))
    found = {item.parameter: item for item in find_importances(records, QUESTION)}
    alpha, gini = ([f(r) for r in records] for f in (lambda r: r.sampled["alpha"], lambda r: r.validation["gini"]))
    expected = stats.spearmanr(alpha[::3], np.reshape(gini, (15, 3)).mean(axis=1))
    assert found["alpha"].correlation == pytest.approx(expected.statistic)
    assert found["alpha"].p_value == pytest.approx(expected.pvalue, abs=0.04)


def test_what_a_seed_does_is_looked_for_within_settings(under_three_seeds):
    """Seed 2 adds 0.05 to what beta spreads over 1: among all trials that would be nothing."""
    random = np.random.default_rng(0)
    does = find_importances(under_three_seeds(random, by_seed=(0.0, 0.0, 0.05)), QUESTION)
    does_nothing = find_importances(under_three_seeds(random), QUESTION)
    for found, expected in ((does, True), (does_nothing, False)):
        (seed,) = (item for item in found if item.parameter == "seed")
        assert (seed.num_trials, seed.share < 0.05) == (45, True)
        assert (seed.p_value < 0.05) == expected


def test_figure_and_screen_say_how_many_settings_there_are(new_run):
    run, random = new_run(), np.random.default_rng(0)
    for seed in (0, 1):
        run.baseline(key=f"base-{seed}", seed=seed)
    for index in range(16):
        alpha, seed = 1.0 + index // 2, index % 2
        values = {"seed": seed, "baseline": f"base-{seed}", "alpha": alpha, "gini": 0.01 * (alpha + random.uniform())}
        run.trial(f"t{index:02d}", sampled={"alpha": alpha, "seed": seed}, **values)
    found, console = find(read_run(run.folder)), Console(file=io.StringIO(), width=100)
    figure = draw_importance(found.importance_panels, title="demo")
    told = "resnet18, 16 finished trials of 8 settings: means over their seeds, but for seed itself"
    assert figure.axes[0].get_title(loc="left") == told
    print_findings(found, [Path("analysis/frontier.png")], console)
    assert "16 trials of 8 settings)" in console.file.getvalue()


def test_of_one_trial_a_setting_the_permutations_are_those_of_trials(nothing_matters):
    """Written down: `p_value` before settings were compared, the family's when it went over to the smallest p-value."""
    found = find_importances(nothing_matters(np.random.default_rng(0)), QUESTION)
    assert [2001 * item.p_value for item in found] == pytest.approx([1252, 1678, 1418, 19])
    assert [2001 * item.family_p_value for item in found] == pytest.approx([1964, 1999, 1988, 74])


def test_the_family_has_parameters_of_other_trials_too(nothing_matters):
    """Ten of twenty trials sampled q1: a share of chance is then likelier to be large."""
    records = [
        replace(record, sampled={name: value for name, value in record.sampled.items() if name == "q0" or index % 2})
        for index, record in enumerate(nothing_matters(np.random.default_rng(0), num_parameters=2))
    ]
    of_all, of_half = find_importances(records, QUESTION)
    assert (of_all.num_trials, of_half.num_trials) == (20, 10)
    assert of_all.family_p_value > of_all.p_value
    assert of_half.family_p_value > of_half.p_value


def test_the_printed_p_value_is_the_familys(new_run):
    run, random = new_run(), np.random.default_rng(0)
    run.baseline()
    for index in range(10):
        gini, alpha, beta = random.uniform(size=3).tolist()
        run.trial(f"t{index}", gini=gini, alpha=alpha, beta=beta, sampled={"alpha": alpha, "beta": beta})
    console = Console(file=io.StringIO(), width=100)
    print_findings(find(read_run(run.folder)), [Path("analysis/frontier.png")], console)
    found = importances_of(run)
    first = min((found["gini", name] for name in ("alpha", "beta")), key=lambda item: item.p_value)
    told = f"gini: {first.parameter} {first.share:.0%} (p = {first.family_p_value:.2g}, 10 trials)"
    assert f"{IMPORTANCE_HEADING}\n  resnet18, {told}" in console.file.getvalue()
    assert first.family_p_value > 1.2 * first.p_value


def test_a_metric_that_never_changes_has_no_importances(searched):
    run, _ = searched
    assert ("accuracy", "alpha") not in importances_of(run)


def test_few_trials_have_no_importances(mixed_run):
    assert importances_of(mixed_run) == {}


def an_importance(metric, parameter, share, p_value, correlation=None) -> Importance:
    return Importance(
        network="resnet18",
        metric=metric,
        parameter=parameter,
        num_trials=9,
        num_settings=9,
        share=share,
        correlation=correlation,
        p_value=p_value,
        family_p_value=min(1.0, 4 * p_value),
    )


def test_a_panel_is_a_table_of_metrics_by_parameters(new_run):
    records = [new_run().trial(f"t{index}", alpha=index) for index in range(2)]
    falls, rises = an_importance("gini", "alpha", 0.64, 0.001, -0.8), an_importance("gini", "beta", 0.04, 0.5, 0.2)
    choice = an_importance("accuracy", "beta", 0.3, 0.06)
    assert importance_panels(records, (falls, rises, choice)) == (
        ImportancePanel(
            network="resnet18",
            num_finished=2,
            num_settings=2,
            metrics=("gini", "accuracy"),
            parameters=("alpha", "beta"),
            cells=((falls, rises), (None, choice)),
            missing="",
        ),
    )
    figure = draw_importance(importance_panels(records, (falls, rises, choice)), title="demo")
    assert [text.get_text() for text in figure.axes[0].texts] == ["64% - *", "4%", "-", "30%"]


@pytest.mark.parametrize(
    ("num_trials", "num_seeds", "missing"),
    [
        (2, 1, "2 finished trials: nothing can be said with fewer than 6"),
        (6, 1, "nothing can be said: no parameter or no metric takes two values, or no choice was made twice"),
        (10, 5, "2 settings under several seeds: nothing can be said with fewer than 6"),
    ],
)
def test_a_network_of_which_nothing_can_be_said_says_so(new_run, num_trials, num_seeds, missing):
    run = new_run()
    records = [run.trial(f"t{index}", alpha=index // num_seeds, seed=index % num_seeds) for index in range(num_trials)]
    (panel,) = importance_panels(records, ())
    assert panel.missing == missing
    assert [text.get_text() for text in draw_importance([panel], title="demo").axes[0].texts] == [missing]
