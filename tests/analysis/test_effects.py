import csv
import io

import numpy as np
import pytest

from gcc_search.analysis.effects import Bin, effect_rows, find_effects
from gcc_search.analysis.effects_figure import draw_effects
from gcc_search.analysis.pairing import pair_with_baselines
from gcc_search.analysis.parameters import Parameter, find_parameters
from gcc_search.analysis.table import to_csv
from gcc_search.results.reader import read_run
from gcc_search.search.jobs import JobMaker
from gcc_search.space import SearchSpace, parameter_names

# alpha, beta, p and top-1 of the paper's Table 2.
TABLE_2 = [
    (1, 1e-6, 0, 80.62),
    (1, 1e-6, 1, 81.71),
    (1, 1e-6, 2, 81.26),
    (10, 1e-5, 1, 0.50),
    (1, 1e-5, 1, 30.08),
    (0.1, 1e-5, 1, 81.91),
    (1, 1e-7, 1, 80.24),
]

SPACE = {
    "name": "grid",
    "networks": ["convnet_small"],
    "weights": "baseline",
    "start": {"epochs": 2},
    "data": {"name": "shapes", "num_images": 120},
    "metrics": [{"name": "gini"}],
    "method": "grid",
}
# Two of each parameter that a space file may search.
VALUES = {
    **{"alpha": (0.1, 1.0), "beta": (0.1, 1.0), "p": (1.0, 2.0), "distance": ("correlation", "ssim")},
    **{"compared_at": ("full", "half"), "sparsity": ("paper", "searched"), "cam_class": ("first-view", "own")},
    **{"ce_on_views": ("both", "first"), "detach": ("head", "none"), "warmup_epochs": (0, 1)},
    **{"transform_scale_min": (0.08, 0.2), "photometric": (0.0, 0.5), "opposing": ("kept", "projected")},
    **{"epochs": (5, 10), "batch_size": (16, 32), "lr": (0.001, 0.01)},
    **{"momentum": (0.5, 0.9), "weight_decay": (0.0, 0.1), "lr_step_epochs": (10, 30), "lr_gamma": (0.1, 0.5)},
    **{"image_size": (32, 64), "crop_scale_min": (0.08, 0.2), "seed": (0, 1)},
}


def effects_of(builder):
    run = read_run(builder.folder)
    found = find_effects([trial.record for trial in run.trials], pair_with_baselines(run))
    return {effect.parameter.name: effect for effect in found}


@pytest.fixture
def table_2(new_run):
    run = new_run()
    run.baseline("resnet50", accuracy=82.0)
    for index, (alpha, beta, p, accuracy) in enumerate(TABLE_2):
        settings = {"alpha": alpha, "beta": beta, "p": p}
        status = "finished" if accuracy > 50 else "collapsed"
        run.trial(f"t{index}", "resnet50", status, accuracy=accuracy, sampled=settings, **settings)
    return run


@pytest.fixture
def random_run(new_run):
    run, random = new_run(), np.random.default_rng(0)
    run.baseline()
    for index in range(40):
        sampled = {"alpha": 10 ** random.uniform(-3, 1), "distance": ("ssim", "correlation")[index % 2]}
        status = ("finished", "collapsed", "diverged")[0 if index < 36 else index % 2 + 1]
        accuracy = 94 - sampled["alpha"] / 10
        # No two trials agree in all but one setting.
        settings = {"alpha": sampled["alpha"], "beta": float(index)}
        run.trial(f"t{index:02d}", status=status, accuracy=accuracy, sampled=sampled, **settings)
    return run


def test_rows_are_those_of_the_papers_table_2(table_2):
    found = [
        (name, series.fixed, [(point.place, point.accuracy_points) for point in series.points])
        for name, effect in effects_of(table_2).items()
        for series in effect.series
    ]
    assert found == [
        ("alpha", {"beta": 1e-5, "p": 1}, [(0.1, 81.91), (1, 30.08), (10, 0.50)]),
        ("beta", {"alpha": 1, "p": 1}, [(1e-7, 80.24), (1e-6, 81.71), (1e-5, 30.08)]),
        ("p", {"alpha": 1, "beta": 1e-6}, [(0, 80.62), (1, 81.71), (2, 81.26)]),
    ]
    assert effects_of(table_2)["p"].series[0].points[0].values["tradeoff_points"] == pytest.approx(1.38)


def test_a_series_leaves_no_bins(table_2):
    assert all(effect.series and not effect.bins for effect in effects_of(table_2).values())


def test_trials_of_other_seeds_stand_in_no_row(new_run):
    run = new_run()
    for seed in (0, 1):
        run.baseline(key=f"base-{seed}", seed=seed)
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=1.0 + seed, sampled={"alpha": 1.0 + seed})
    assert effects_of(run)["alpha"].series == ()


def test_two_values_of_each_parameter_are_tried_here():
    assert sorted(VALUES) == sorted(parameter_names())


@pytest.mark.parametrize("name", VALUES)
def test_a_grid_over_any_parameter_of_a_space_file_stands_in_a_row(new_run, name):
    """Settings as a search makes them, which trains the network to start from for each seed and image size."""
    run, space = new_run(), SearchSpace.model_validate(SPACE | {"parameters": {name: {"values": VALUES[name]}}})
    maker = JobMaker(space=space, fingerprints={size: f"shapes at {size}" for size in (32, 64, 224)})
    records = []
    for number, value in enumerate(VALUES[name]):
        *_, job = maker.jobs_of("convnet_small", f"t{number}", {name: value})
        records.append(
            run.trial(
                job.id,
                "convnet_small",
                settings=job.settings.model_dump(mode="json"),
                sampled=job.identity.sampled,
                fingerprint=maker.fingerprints[job.settings.recipe.image_size],
            )
        )
    (effect,) = find_effects(records, ())
    (series,) = effect.series
    assert effect.parameter.name == name
    assert [point.trial for point in series.points] == ["t0", "t1"]


def test_images_that_moved_are_the_same_images_and_others_are_not(new_run):
    run, records = new_run(), []
    for number, (root, fingerprint) in enumerate([("/old", "ours"), ("/new", "ours"), ("/new", "others")]):
        data = {"name": "caltech101", "root": root, "download": number > 0}
        alpha = 1.0 + number
        records.append(
            run.trial(
                f"t{number}", alpha=alpha, sampled={"alpha": alpha}, settings={"data": data}, fingerprint=fingerprint
            )
        )
    (effect,) = find_effects(records, ())
    assert [[point.trial for point in series.points] for series in effect.series] == [["t0", "t1"]]


def test_a_random_search_is_binned_over_decades(random_run):
    effect = effects_of(random_run)["alpha"]
    bins = [found for found in effect.bins if found.measure == "tradeoff_points"]
    finished = [point for point in effect.points if point.status == "finished"]
    edges = np.geomspace(min(p.place for p in finished), max(p.place for p in finished), 6)
    assert effect.series == ()
    assert (sum(found.num_trials for found in bins), len(bins)) == (36, 5)
    inside = [p.values["tradeoff_points"] for p in finished if edges[1] <= p.place < edges[2]]
    quartiles = np.quantile(inside, [0.25, 0.5, 0.75])
    assert bins[1] == Bin(
        network="resnet18",
        measure="tradeoff_points",
        low=pytest.approx(edges[1]),
        high=pytest.approx(edges[2]),
        middle=pytest.approx(np.sqrt(edges[1] * edges[2])),
        num_trials=len(inside),
        mean=pytest.approx(np.mean(inside)),
        quartile_1=pytest.approx(quartiles[0]),
        median=pytest.approx(quartiles[1]),
        quartile_3=pytest.approx(quartiles[2]),
    )


def test_a_choice_is_a_bin_of_its_own(random_run):
    effect = effects_of(random_run)["distance"]
    assert effect.parameter == Parameter(name="distance", is_log=False, choices=("correlation", "ssim"))
    bins = [found for found in effect.bins if found.measure == "gini"]
    assert [(found.middle, found.num_trials) for found in bins] == [(0.0, 18), (1.0, 18)]


def test_a_trial_stands_in_one_bin_where_another_network_reaches_further(new_run):
    run = new_run()
    for network, most in (("resnet18", 3), ("resnet50", 5)):
        run.baseline(network)
        for index in range(12):
            epochs, beta = index % (most + 1), float(index)
            run.trial(f"{network}-{index:02d}", network, sampled={"warmup_epochs": epochs, "beta": beta}, beta=beta)
    bins = [found for found in effects_of(run)["warmup_epochs"].bins if found.measure == "gini"]
    counts = {name: [found.num_trials for found in bins if found.network == name] for name in ("resnet18", "resnet50")}
    assert counts == {"resnet18": [3, 3, 3, 3], "resnet50": [2, 2, 2, 2, 4]}


def test_few_trials_have_no_bins(new_run):
    run = new_run()
    run.baseline()
    for index in range(3):
        run.trial(f"t{index}", sampled={"alpha": index + 1.0, "beta": index + 2.0}, alpha=index + 1.0, beta=index + 2.0)
    assert [(effect.series, effect.bins) for effect in effects_of(run).values()] == [((), ()), ((), ())]


def test_parameters_are_told_in_the_papers_order_and_constants_are_not(new_run):
    run = new_run()
    for index, lr in enumerate((1e-3, 1e-1)):
        sampled = {"lr": lr, "p": 1.0 + index, "beta": 0.1, "alpha": index, "batch_size": 16 * (index + 1)}
        run.trial(f"t{index}", sampled=sampled)
    found = find_parameters([trial.record for trial in read_run(run.folder).trials])
    assert [(parameter.name, parameter.is_log) for parameter in found] == [
        ("alpha", False),
        ("p", False),
        ("batch_size", False),
        ("lr", True),
    ]


@pytest.mark.parametrize("values", [(1, 1.0), ("ssim", "ssim"), (True, True)])
def test_one_value_does_not_vary_however_it_is_written(new_run, values):
    run = new_run()
    for index, value in enumerate(values):
        run.trial(f"t{index}", sampled={"alpha": value})
    assert find_parameters([trial.record for trial in read_run(run.folder).trials]) == ()


def test_the_file_has_a_row_per_trial_of_a_series(table_2):
    content = to_csv(effect_rows(list(effects_of(table_2).values()))).decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [(row["parameter"], row["value"], row["accuracy_points"]) for row in rows[:2]] == [
        ("alpha", "0.1", "81.91"),
        ("alpha", "1.0", "30.08"),
    ]
    assert rows[0]["fixed"] == '{"beta": 1e-05, "p": 1}'


def test_the_file_has_a_row_per_bin(random_run):
    rows = effect_rows(list(effects_of(random_run).values()))
    assert [row["value"] for row in rows if row["parameter"] == "distance"][:2] == ["correlation", "ssim"]
    assert {row["kind"] for row in rows} == {"marginal"}


def test_trials_that_did_not_train_are_marked_and_do_not_stretch_the_axes(table_2):
    figure = draw_effects(list(effects_of(table_2).values()), title="demo")
    assert "collapsed (place only)" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert figure.axes[0].get_ylim()[1] < 5
    assert figure.axes[0].get_xlim()[1] > 10


def test_without_a_parameter_the_figure_says_so():
    assert "no parameter takes more than one value" in draw_effects((), title="demo").get_suptitle()


def test_seeds_have_a_place_each_in_the_order_of_their_numbers(new_run):
    run = new_run()
    seeds = [(10, 2, 0)[index % 3] for index in range(12)]
    records = [
        run.trial(f"t{index:02d}", seed=seed, alpha=index, gini=0.3 + seed / 100, sampled={"seed": seed})
        for index, seed in enumerate(seeds)
    ]
    (effect,) = find_effects(records, ())
    assert (effect.parameter.choices, effect.parameter.is_log) == (("0", "2", "10"), False)
    rows = [row for row in effect_rows([effect]) if row["measure"] == "gini"]
    assert [(row["value"], row["num_trials"], row["mean"]) for row in rows] == [
        ("0", 4, pytest.approx(0.3)),
        ("2", 4, pytest.approx(0.32)),
        ("10", 4, pytest.approx(0.4)),
    ]
