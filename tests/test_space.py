"""Search-space files: what a right one gives, and the one line that each mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcc_search.errors import SpaceError
from gcc_search.settings import NETWORKS as NETWORK_NAMES
from gcc_search.settings import Collapse, EvaluationSettings, Explanation, Recipe
from gcc_search.space import SearchSpace, check_settings, load_space, parameter_names
from gcc_search.vocabulary import Parameter

SHIPPED = sorted((Path(__file__).parent.parent / "search_spaces").glob("*.yaml"))

SPACE = """\
name: demo
networks: [convnet_small]
weights: none
data: {name: shapes}
recipe: {epochs: 4}
parameters:
  alpha: {distribution: log_uniform_values, min: 1.0e-3, max: 10}
  distance: {values: [ssim, correlation]}
metrics: [{name: gini}]
run_cap: 4
"""
ALPHA = "alpha: {distribution: log_uniform_values, min: 1.0e-3, max: 10}"
*BUT_LAST, LAST = NETWORK_NAMES
ALL_NETWORKS = f"{', '.join(BUT_LAST)} or {LAST}"
OWN = "one of your own comes with a package: see README"
NETWORKS = f"one of {len(NETWORK_NAMES)} names"
ONE_NUMBER = "write it as 0.001 or 1e-3, without quotes"
ONE_WHOLE_NUMBER = "write it as 16, without quotes"


@pytest.fixture
def load(tmp_path):
    """The space of SPACE with one line of it changed."""

    def load_changed(old="", new="", overrides=None):
        assert old in SPACE
        path = tmp_path / "bad.yaml"
        path.write_text(SPACE.replace(old, new, 1) if old else SPACE)
        return load_space(path, overrides)

    return load_changed


@pytest.fixture
def complaint(load, tmp_path):
    """What is said of SPACE with one line of it changed, without the folder."""

    def complaint_of(old, new, overrides=None) -> str:
        with pytest.raises(SpaceError) as caught:
            load(old, new, overrides)
        return str(caught.value).removeprefix(f"{tmp_path}/")

    return complaint_of


def check_all(complaint, cases: list[tuple[str, str, str]]) -> None:
    assert [complaint(old, new) for old, new, _ in cases] == [f"bad.yaml: {message}" for *_, message in cases]


def test_a_space_is_what_its_file_says(load):
    space = load()
    assert (space.name, space.networks, space.run_cap) == ("demo", ("convnet_small",), 4)
    assert space.recipe == Recipe(epochs=4)
    assert (space.parameters["alpha"].min, space.parameters["alpha"].max) == (1e-3, 10)
    assert space.parameters["distance"].choices == ("ssim", "correlation")
    assert (space.method, space.metrics[0].name, space.constraints) == ("bayes", "gini", ())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_loads_and_bears_its_files_name(path):
    assert load_space(path).name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_opens_with_what_command_and_expectation(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert header[0].startswith("# What:")
    assert any(line.startswith("# Command:") and f"--space search_spaces/{path.name}" in line for line in header)
    assert any(line.startswith("# Expect:") for line in header)


def test_a_misspelt_key_is_answered_with_the_nearest_one(complaint):
    cases = [
        ("run_cap: 4", "runcap: 4", "runcap: unknown key; did you mean run_cap?"),
        ("epochs: 4", "epoch: 4", "recipe.epoch: unknown key; did you mean epochs?"),
        ("max: 10", "mx: 10", "parameters.alpha.mx: unknown key; did you mean max?"),
        ("{name: gini}", "{name: gini, gaol: maximize}", "metrics.0.gaol: unknown key; did you mean goal?"),
        ("{name: shapes}", "{name: shapes, zzz: 1}", f"data.zzz: unknown key; known are {', '.join(data_keys())}"),
    ]
    check_all(complaint, cases)


def data_keys() -> tuple[str, ...]:
    from gcc_search.settings import DataSettings

    return tuple(DataSettings.model_fields)


def test_a_range_runs_upwards_and_says_how_it_is_drawn(complaint):
    distributions = "uniform, log_uniform_values or int_uniform"
    start = "start higher, or list 0 under values:"
    forms = "value; values; min and max with a distribution"
    cases = [
        ("max: 10", "max: 0.0001", "parameters.alpha: min must be below max, got 0.001 and 0.0001"),
        ("max: 10", "max: 1e-3", "parameters.alpha: min must be below max, got 0.001 and 0.001"),
        (
            "min: 1.0e-3",
            "min: 0",
            f"parameters.alpha: min must be above 0 in log_uniform_values, got 0.0; {start}",
        ),
        (
            ALPHA,
            "p: {distribution: log_uniform_values, min: 0, max: 2}",
            f"parameters.p: min must be above 0 in log_uniform_values, got 0.0; {start}",
        ),
        (", max: 10", "", "parameters.alpha: a range must have both min and max"),
        (
            "distribution: log_uniform_values, ",
            "",
            f"parameters.alpha: a range must say its distribution: {distributions}",
        ),
        (ALPHA, "alpha: {}", f"parameters.alpha: must have one of: {forms}"),
        (ALPHA, "alpha: {value: 1, min: 0, max: 1}", f"parameters.alpha: must have one of: {forms}"),
        (
            ALPHA,
            "alpha: {distribution: uniform, value: 1}",
            "parameters.alpha: distribution must be constant where values are listed, got uniform; leave it out",
        ),
        (
            ALPHA,
            "warmup_epochs: {distribution: int_uniform, min: 0, max: 2.5}",
            "parameters.warmup_epochs: min and max must be whole in int_uniform, got 0.0 and 2.5",
        ),
        (
            ALPHA,
            "warmup_epochs: {distribution: uniform, min: 0, max: 2}",
            "parameters.warmup_epochs: distribution must be int_uniform for whole numbers, got uniform",
        ),
        (ALPHA, "p: {distribution: uniform, min: 1, max: 9}", "parameters.p.max: must be at most 4, got 9.0"),
        (
            ALPHA,
            "detach: {distribution: uniform, min: 0, max: 1}",
            "parameters.detach.min: must be none, head or second-view, got 0.0",
        ),
    ]
    check_all(complaint, cases)


def test_listed_values_are_some_and_differ(complaint):
    advice = "leave the parameter out, or list some"
    cases = [
        (ALPHA, "alpha: {values: []}", f"parameters.alpha: values must not be empty; {advice}"),
        (ALPHA, "alpha: {values: [1, 1.0]}", "parameters.alpha: values must differ, got [1, 1.0]"),
        (ALPHA, "alpha: {values: 1}", "parameters.alpha.values: must be a list, as in [a, b], got 1"),
        (ALPHA, "alpha: {values: [-1]}", "parameters.alpha.values.0: must be at least 0, got -1"),
        (
            "[ssim, correlation]",
            "[ssim, cosine]",
            'parameters.distance.values.1: must be ssim or correlation, got "cosine"',
        ),
        (ALPHA, "image_size: {values: [224, 16]}", "parameters.image_size.values.1: must be at least 32, got 16"),
        (ALPHA, "epochs: {values: [1.5]}", "parameters.epochs.values.0: must be a whole number, got 1.5"),
        (ALPHA, "seed: {values: [0, -1]}", "parameters.seed.values.1: must be at least 0, got -1"),
        (
            ALPHA,
            "alpha: {value: [1]}",
            "parameters.alpha.value: must be one number, text, true or false, got [1]",
        ),
    ]
    check_all(complaint, cases)


def test_text_true_and_nan_are_no_numbers(complaint):
    cases = [
        ("min: 1.0e-3", 'min: "1e-6"', f'parameters.alpha.min: must be a number, got the text "1e-6"; {ONE_NUMBER}'),
        (
            ALPHA,
            'alpha: {values: ["1e-6"]}',
            f'parameters.alpha.values.0: must be a number, got the text "1e-6"; {ONE_NUMBER}',
        ),
        (ALPHA, "alpha: {value: high}", f'parameters.alpha.value: must be a number, got the text "high"; {ONE_NUMBER}'),
        ("epochs: 4", "lr: '1e-3'", f'recipe.lr: must be a number, got the text "1e-3"; {ONE_NUMBER}'),
        (ALPHA, "alpha: {value: true}", "parameters.alpha.value: must be a number, got true"),
        (ALPHA, "alpha: {value: yes}", f'parameters.alpha.value: must be a number, got the text "yes"; {ONE_NUMBER}'),
        ("run_cap: 4", "run_cap: true", "run_cap: must be a whole number, got true"),
        ("run_cap: 4", "run_cap: x", f'run_cap: must be a whole number, got the text "x"; {ONE_WHOLE_NUMBER}'),
        ("epochs: 4", "epochs: '4'", f'recipe.epochs: must be a whole number, got the text "4"; {ONE_WHOLE_NUMBER}'),
        (
            ALPHA,
            "batch_size: {values: [many]}",
            f'parameters.batch_size.values.0: must be a whole number, got the text "many"; {ONE_WHOLE_NUMBER}',
        ),
        ("run_cap: 4", "run_cap: 1000000000", "run_cap: must be at most 100000, got 1000000000"),
        ("max: 10}", "max: 1.0e+101}", "parameters.alpha.max: must be between -1e+100 and 1e+100, got 1e+101"),
        (
            "run_cap: 4",
            "run_cap: 4\nseed: 10000000000000000000",
            "seed: must be at most 9.22337e+18, got 10000000000000000000",
        ),
        ("max: 10", "max: .inf", "parameters.alpha.max: must be finite, got inf"),
        ("max: 10", "max: 1e999", "parameters.alpha.max: must be finite, got inf"),
        (ALPHA, "alpha: {value: .nan}", "parameters.alpha.value: must be finite, got nan"),
        ("epochs: 4", "lr: .nan", "recipe.lr: must be finite, got nan"),
        ("epochs: 4", "epochs: 4.5", "recipe.epochs: must be a whole number, got 4.5"),
        ("epochs: 4", "epochs: 0", "recipe.epochs: must be at least 1, got 0"),
        ("epochs: 4", "momentum: 1", "recipe.momentum: must be below 1, got 1"),
        ("epochs: 4", "lr: 0", "recipe.lr: must be above 0, got 0"),
        ("epochs: 4", "lr:", "recipe.lr: must be a number, got null"),
        ("run_cap: 4", "resources: {gpus_per_trial: 0}", "resources.gpus_per_trial: must be above 0, got 0"),
        (
            "run_cap: 4",
            "resources: {cpus_per_trial: 0.00005}",
            "resources.cpus_per_trial: must be at least 0.0001, got 5e-05",
        ),
        (
            "run_cap: 4",
            "resources: {gpus_per_trial: 1e-9}",
            "resources.gpus_per_trial: must be at least 0.0001, got 1e-09",
        ),
        (
            "run_cap: 4",
            "resources: {gpus_per_trial: 1.5}",
            "resources.gpus_per_trial: must be a whole number where it is above 1, got 1.5",
        ),
    ]
    check_all(complaint, cases)


def test_trials_share_a_gpu_by_one_rule(complaint, load):
    rule = "resources.trials_per_gpu: must be auto or a whole number from 1 to 100, got"
    wrong = {"0": "0", "101": "101", "2.5": "2.5", "true": "true", "many": '"many"', "[4]": "[4]", ".nan": "nan"}
    cases = [
        ("run_cap: 4", f"run_cap: 4\nresources: {{trials_per_gpu: {text}}}", f"{rule} {told}")
        for text, told in wrong.items()
    ]
    both = "run_cap: 4\nresources: {trials_per_gpu: auto, gpus_per_trial: 1}"
    told = "resources: must have gpus_per_trial or trials_per_gpu, got both, 1 and auto; leave one out"
    check_all(complaint, [*cases, ("run_cap: 4", both, told)])
    for text, number in (("auto", "auto"), ("4", 4), ("8.0", 8)):
        space = load("run_cap: 4", f"run_cap: 4\nresources: {{trials_per_gpu: {text}}}")
        assert space.resources.trials_per_gpu == number
        # As run.json keeps it and `resume` reads it.
        assert SearchSpace.model_validate(space.model_dump(mode="json")) == space


@pytest.mark.parametrize("text", ["1:30", "010", "0b11", "1_000"])
def test_a_number_of_yaml_1_1_is_refused_where_a_number_is_wanted(complaint, text):
    told = f'must be a whole number, got the text "{text}"; {ONE_WHOLE_NUMBER}'
    assert complaint("run_cap: 4", f"run_cap: {text}") == f"bad.yaml: run_cap: {told}"


@pytest.mark.parametrize("text", ["1e-6", "1.0e-6", "1E-6"])
def test_a_small_number_needs_no_dot(load, text):
    assert load("min: 1.0e-3", f"min: {text}").parameters["alpha"].min == 1e-6


def test_unknown_names_are_answered_with_the_nearest_one(complaint):
    cases = [
        ("convnet_small", "resnet19", f'networks.0: must be {NETWORKS}, got "resnet19"; did you mean resnet18?'),
        ("convnet_small", "lstm", f'networks.0: must be {ALL_NETWORKS}, got "lstm"; {OWN}'),
        (
            "name: shapes",
            "name: caltech",
            'data.name: must be shapes, caltech101, cub200 or imagefolder, got "caltech"; did you mean caltech101?',
        ),
        ("name: gini", "name: ginni", 'metrics.0.name: must be a known metric, got "ginni"; did you mean gini?'),
        (ALPHA, "alhpa: {value: 1}", "parameters.alhpa: unknown parameter; did you mean alpha?"),
        (
            "run_cap: 4",
            "method: Bayes",
            'method: must be bayes, random, grid or points, got "Bayes"; did you mean bayes?',
        ),
        (
            "run_cap: 4",
            "early_terminate: {type: asha, metric: accuracies}",
            'early_terminate.metric: must be a known metric, got "accuracies"; did you mean accuracy?',
        ),
        (
            "weights: none",
            "weights: {resnet: none}",
            f'weights.resnet: must be {NETWORKS}, got "resnet"; did you mean resnet50?',
        ),
    ]
    check_all(complaint, cases)


def test_metrics_and_constraints_point_the_right_way(complaint):
    form = '"METRIC >= baseline - NUMBER" or "METRIC >= NUMBER" (or <=)'
    cases = [
        ("name: gini", "name: gini, goal: minimize", "metrics.0.goal: must be maximize for gini, got minimize"),
        ("name: gini", "name: gini, goal: up", 'metrics.0.goal: must be maximize or minimize, got "up"'),
        ("[{name: gini}]", "[{name: gini}, {name: gini}]", 'metrics: must differ, got ["gini", "gini"]'),
        ("[{name: gini}]", "[gini]", 'metrics.0: must be keys with values, as in {key: value}, got "gini"'),
        ("[{name: gini}]", "[]", "metrics: must list at least one, got []"),
        (
            "run_cap: 4",
            "run_cap: 4\nconstraints: [accuracy > baseline]",
            f'constraints.0: must read {form}, got "accuracy > baseline"',
        ),
        (
            "run_cap: 4",
            "run_cap: 4\nconstraints: [gini >= 0, acuracy >= 1]",
            'constraints.1: must name a known metric, got "acuracy"; did you mean accuracy?',
        ),
        (
            "run_cap: 4",
            "constraints: gini >= 0",
            'constraints: must be a list, as in [a, b], got "gini >= 0"',
        ),
    ]
    check_all(complaint, cases)


@pytest.mark.parametrize("name", ["iauc", "dauc"])
def test_what_is_scored_once_on_the_test_split_steers_no_search(complaint, name):
    told = (
        f'must be measured on the validation split after each epoch, got "{name}", which is scored on the test split, '
        "once a trial has ended, and can steer no search; known are accuracy, consistency, corrected_consistency, "
        "correlation, gini, mass_half, degenerate_fraction, box_mass, pointing"
    )
    early = f"early_terminate: {{type: asha, metric: {name}}}"
    cases = [
        ("run_cap: 4", f"run_cap: 4\nconstraints: ['{name} >= baseline']", f"constraints.0: {told}"),
        ("run_cap: 4", f"run_cap: 4\nconstraints: [' {name}<=0.5']", f"constraints.0: {told}"),
        ("name: gini", f"name: {name}", f"metrics.0.name: {told}"),
        ("run_cap: 4", f"run_cap: 4\n{early}", f"early_terminate.metric: {told}"),
    ]
    check_all(complaint, cases)


def test_a_method_gets_what_it_needs(complaint):
    early = "early_terminate: {type: asha, metric: gini, min_epochs"
    cases = [
        ("run_cap: 4\n", "", "run_cap: must say how many trials to run under method: bayes, as in run_cap: 16"),
        (
            "run_cap: 4",
            "method: random",
            "run_cap: must say how many trials to run under method: random, as in run_cap: 16",
        ),
        ("run_cap: 4", "run_cap: 0", "run_cap: must be at least 1, got 0"),
        ("run_cap: 4", "run_cap: 4\nmax_trial_failures: -1", "max_trial_failures: must be at least 0, got -1"),
        ("run_cap: 4", "run_cap: 4\nmax_failed_trials: 0", "max_failed_trials: must be at least 1, got 0"),
        ("run_cap: 4", "run_cap: 4\nmax_hours: 0", "max_hours: must be above 0, got 0"),
        ("run_cap: 4", "run_cap: 4\nmax_silent_minutes: 0.5", "max_silent_minutes: must be at least 1, got 0.5"),
        (
            "networks: [convnet_small]",
            "networks: [resnet18, resnet50, convnext_tiny, convnet_small, convnet_small]",
            'networks: must differ, got ["resnet18", "resnet50", "convnext_tiny", "convnet_small"...',
        ),
        ("run_cap: 4", "method: grid", "parameters.alpha: must list values under method: grid, got a range"),
        ("run_cap: 4", "method: points", "points: must list at least one setting under method: points"),
        (
            "run_cap: 4",
            f"run_cap: 4\n{early}: 4}}",
            "early_terminate.min_epochs: must be below recipe.epochs, 4, got 4; lower it, or leave early_terminate out",
        ),
        (
            "metrics:",
            f"  epochs: {{values: [6, 9]}}\n{early}: 9}}\nmetrics:",
            "early_terminate.min_epochs: must be below parameters.epochs, 9, got 9; "
            "lower it, or leave early_terminate out",
        ),
        (
            "run_cap: 4",
            f"run_cap: 4\n{early}: 2, max_epochs: 2}}",
            "early_terminate: min_epochs must be below max_epochs, got 2 and 2",
        ),
    ]
    check_all(complaint, cases)


def test_every_network_gets_a_trial(load, complaint):
    overrides = {"networks": ["resnet18", "resnet50"], "run_cap": 1}
    message = complaint("", "", overrides)
    assert message == "bad.yaml: run_cap: must give each of 2 networks a trial, got 1"
    assert load(overrides=overrides | {"run_cap": 2}).run_cap == 2


def test_a_parameter_that_changes_the_baseline_lists_its_values(load, complaint):
    why = "changes the baseline, which is trained once for each value"
    ranged = "{distribution: uniform, min: 0.1, max: 0.2}"
    names = [name for name in parameter_names() if load().changes_baseline(name)]
    cases = [
        (ALPHA, f"{name}: {ranged}", f"parameters.{name}: must list values, got a range; {name} {why}")
        for name in names
    ]
    assert {"lr", "image_size", "seed", "ce_on_views"} <= set(names)
    assert {"alpha", "beta", "p", "transform_scale_min", "photometric"}.isdisjoint(names)
    check_all(complaint, cases)


@pytest.mark.parametrize(
    "views", ["explanation: {ce_on_views: both}\nparameters:", "parameters:\n  ce_on_views: {values: [first, both]}"]
)
def test_photometric_is_a_range_where_it_is_no_baselines(load, complaint, views):
    ranged = f"{ALPHA}\n  photometric: {{distribution: uniform, min: 0, max: 1}}"
    assert not load(ALPHA, ranged).changes_baseline("photometric")
    message = complaint(f"parameters:\n  {ALPHA}", f"{views}\n  {ranged}")
    why = "photometric changes the baseline, which is trained once for each value"
    assert message == f"bad.yaml: parameters.photometric: must list values, got a range; {why}"


def test_points_are_settings_of_the_parameters(complaint):
    cases = [
        (f"points: [{point}]", message)
        for point, message in [
            ("{beta: 1}", "points.0.beta: must be one of the parameters, alpha, distance"),
            ("{alpha: 1}, {bta: 1}", "points.1.bta: must be one of the parameters, alpha, distance"),
            ("{alpha: 20}", "points.0.alpha: must be what parameters.alpha allows, 0.001 to 10.0, got 20"),
            ("{alpha: -1}", "points.0.alpha: must be at least 0, got -1"),
            ("{distance: cosine}", 'points.0.distance: must be ssim or correlation, got "cosine"'),
            ("{alpha: '1'}", f'points.0.alpha: must be a number, got the text "1"; {ONE_NUMBER}'),
            ("{alpha: true}", "points.0.alpha: must be a number, got true"),
            ("{alpha: .nan}", "points.0.alpha: must be finite, got nan"),
            ("{alpha: [1]}", "points.0.alpha: must be one number, text, true or false, got [1]"),
            ("1", "points.0: must be keys with values, as in {key: value}, got 1"),
        ]
    ]
    check_all(complaint, [("run_cap: 4", f"run_cap: 4\n{points}", message) for points, message in cases])


def test_a_point_takes_one_of_the_listed_values(complaint):
    changed = "distance: {values: [ssim]}\npoints: [{distance: correlation}]"
    message = complaint("distance: {values: [ssim, correlation]}", changed)
    assert (
        message == 'bad.yaml: points.0.distance: must be what parameters.distance allows, ["ssim"], got "correlation"'
    )


def test_points_alone_are_complete(load, complaint):
    message = complaint("run_cap: 4", "method: points\npoints: [{alpha: 1}]")
    assert message == "bad.yaml: points.0: must give every parameter under method: points, got no distance"
    assert load("run_cap: 4", "run_cap: 4\npoints: [{alpha: 1}]").points == ({"alpha": 1},)
    # What is the same for all need not be said again.
    settled = "distance: {value: ssim}\nmethod: points\npoints: [{alpha: 1}]"
    assert load("distance: {values: [ssim, correlation]}", settled).points == ({"alpha": 1},)


def test_weights_and_the_start_network_go_together(complaint):
    recipe = "the recipe of the network to start from"
    cases = [
        ("weights: none", "weights: baseline", f"start: must be given with weights: baseline, {recipe}"),
        (
            "weights: none",
            "start: {epochs: 1}",
            "start: must go with weights: baseline; set that, or leave start out",
        ),
        (
            "weights: none",
            "weights: {convnet_small: baseline}",
            "weights: baseline must be for all networks; write weights: baseline",
        ),
        ("weights: none", "weights: {resnet18: none}", "weights: must name every network, got none for convnet_small"),
        ("weights: none", "weights: {resnet18: 5}", "weights.resnet18: must be text, got 5; put it in quotes"),
        ("weights: none", "weights: [none]", 'weights: must be text, or text for each network, got ["none"]'),
        ("weights: none", "weights:", "weights: must be text, or text for each network, got null"),
    ]
    check_all(complaint, cases)


def test_a_setting_that_no_trial_would_take_is_refused(complaint):
    twice = "must not stand beside parameters.{0}, which says it for every trial; leave it out"
    size = "start.image_size: must be that of the trials, whose images the start network sees: {}, got 64; leave it out"
    first = "weights: none\ndata: {name: shapes}\nrecipe: {epochs: 4}\nparameters:\n"
    started = "weights: baseline\ndata: {name: shapes}\nstart: {image_size: 64}\nparameters:\n"
    cases = [
        ("recipe: {epochs: 4}", "explanation: {alpha: 1}", f"explanation.alpha: {twice.format('alpha')}"),
        ("metrics:", "  epochs: {values: [4, 8]}\nmetrics:", f"recipe.epochs: {twice.format('epochs')}"),
        (first, started, size.format("[224]")),
        (first, started + "  image_size: {values: [64, 96]}\n", size.format("[64, 96]")),
    ]
    check_all(complaint, cases)


def test_a_setting_may_stand_beside_a_parameter_that_is_always_the_same(load):
    space = load("metrics:", "  epochs: {value: 4}\nmetrics:")
    assert space.recipe.epochs == 4


@pytest.mark.parametrize("trials", ["recipe: {image_size: 64}\nparameters:", "parameters:\n  image_size: {value: 64}"])
def test_a_start_network_may_be_given_the_size_of_the_trials(load, trials):
    started = f"weights: baseline\nstart: {{image_size: 64}}\ndata: {{name: shapes}}\n{trials}"
    space = load("weights: none\ndata: {name: shapes}\nrecipe: {epochs: 4}\nparameters:", started)
    assert space.start == Recipe(image_size=64)


def test_a_value_of_the_wrong_kind_is_told_what_is_wanted(complaint):
    rule = "must be 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first"
    cases = [
        ("name: demo", "name: 5", "name: must be text, got 5; put it in quotes"),
        ("name: demo", "name: a/b", f'name: {rule}, got "a/b"'),
        ("name: demo", 'name: "a\\nb"', f'name: {rule}, got "a\\nb"'),
        ("name: demo\n", "", "name: must be given; examples are in search_spaces/"),
        ("[convnet_small]", "convnet_small", 'networks: must be a list, as in [a, b], got "convnet_small"'),
        ("[convnet_small]", "[]", "networks: must list at least one, got []"),
        ("data: {name: shapes}", "data: shapes", 'data: must be keys with values, as in {key: value}, got "shapes"'),
        ("{name: shapes}", "{name: shapes, root: 5}", "data.root: must be the path of a folder, got 5"),
        (
            "{name: shapes}",
            "{name: shapes, classes: [101]}",
            "data.classes.0: must be text, got 101; put it in quotes",
        ),
        ("{name: shapes}", "{name: shapes, download: maybe}", 'data.download: must be true or false, got "maybe"'),
        ("{name: shapes}", "{name: shapes, test_fraction: 1}", "data.test_fraction: must be below 1, got 1"),
        (ALPHA, "alpha: 1.0", "parameters.alpha: must be keys with values, as in {key: value}, got 1.0"),
    ]
    check_all(complaint, cases)


@pytest.mark.parametrize("name", ["n" * 65, "-demo", ".demo", "de mo"])
def test_a_name_is_a_folders_and_nothing_that_a_shell_takes_for_something_else(load, complaint, name):
    assert complaint("name: demo", f"name: {name}").startswith("bad.yaml: name: must be 1 to 64 letters, digits, dots")
    for fitting in ("n" * 64, "0", "De-mo_1.2"):
        assert load("name: demo", f'name: "{fitting}"').name == fitting


def test_several_mistakes_are_counted_and_the_first_is_told(complaint):
    message = complaint("name: demo\nnetworks: [convnet_small]", "name: '*'\nnetworks: []\nseeed: 1")
    assert message.endswith('got "*" (and 2 more to mend)')


@pytest.mark.parametrize("name", ["g" * 1000, "a\\nb", "\\u2028", "\\x1b[31m"])
def test_a_message_is_one_line_whatever_is_quoted_in_it(complaint, name):
    for old in ("demo", "convnet_small", "shapes", "gini", "alpha", "name", "run_cap", "ssim"):
        message = complaint(old, f'"{name}"')
        assert message.isprintable()
        assert len(message) < 1010
        assert "must" in message or "unknown" in message


def test_overrides_are_checked_as_if_the_file_said_so(load, complaint):
    space = load(overrides={"data.root": "/data", "run_cap": 9, "recipe.lr": 0.5})
    assert (str(space.data.root), space.run_cap, space.recipe.lr) == ("/data", 9, 0.5)
    assert complaint("", "", {"run_cap": 0}) == "bad.yaml: run_cap: must be at least 1, got 0"
    assert complaint("data: {name: shapes}", "data: 5", {"data.root": "/"}).startswith("bad.yaml: data: must be keys")


def test_a_trials_settings_are_the_files_with_the_sampled_values_put_in(load):
    space = load("recipe: {epochs: 4}", "recipe: {epochs: 4}\nexplanation: {beta: 0.5}\nseed: 3")
    settings = space.settings("convnet_small", {"alpha": 0.25, "lr": 0.125, "seed": 9})
    assert settings.explanation == Explanation(alpha=0.25, beta=0.5)
    assert settings.recipe == Recipe(epochs=4, lr=0.125)
    assert (settings.seed, settings.weights, settings.network) == (9, "none", "convnet_small")
    assert space.settings("convnet_small", {}).seed == 3


def test_a_trial_is_scored_given_up_and_kept_in_memory_as_the_file_says(load):
    sections = "evaluation: {seed: 7}\ncollapse: {points: 25}\nresources: {activation_checkpointing: true}"
    settings = load("run_cap: 4", f"run_cap: 4\n{sections}").settings("convnet_small", {})
    assert (settings.evaluation, settings.collapse) == (EvaluationSettings(seed=7), Collapse(points=25))
    assert settings.activation_checkpointing


def test_each_network_may_have_weights_of_its_own(load):
    space = load("weights: none", "weights: {convnet_small: a.pth}")
    assert space.settings("convnet_small", {}).weights == "a.pth"


def test_a_sampled_value_that_no_trial_takes_is_one_line(load):
    with pytest.raises(SpaceError, match=r"^explanation.alpha: must be at least 0, got -1$"):
        load().settings("convnet_small", {"alpha": -1})


def test_a_space_survives_json(load):
    space = load()
    assert type(space).model_validate_json(space.model_dump_json()) == space


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (Parameter(distribution="uniform", min=0, max=1), (0, 1, 0.5), (-0.1, 1.1, "1")),
        (Parameter(values=("ssim", "correlation")), ("ssim",), ("cosine", 0)),
        (Parameter(value=1.5), (1.5,), (1, "1.5")),
    ],
)
def test_a_parameter_holds_what_it_can_take(parameter, inside, outside):
    assert all(parameter.holds(value) for value in inside)
    assert not any(parameter.holds(value) for value in outside)


def test_the_command_lines_settings_are_checked_alike():
    with pytest.raises(SpaceError) as caught:
        check_settings({"network": "resnet81", "data": {"name": "shapes"}})
    assert str(caught.value) == f'network: must be {NETWORKS}, got "resnet81"; did you mean resnet18?'


def test_weights_from_the_command_line_are_for_what_is_trained_first(tmp_path):
    shipped = Path(__file__).parent.parent / "search_spaces"
    small = load_space(shipped / "caltech_small.yaml", {"weights": "mine.pth"})
    assert (small.weights, small.start_weights) == ("baseline", "mine.pth")
    assert load_space(shipped / "caltech.yaml", {"weights": "mine.pth"}).weights == "mine.pth"


def test_a_grid_that_nobody_could_train_is_refused_at_once(load):
    def grid(num_alphas: int, num_betas: int) -> str:
        alphas, betas = (", ".join(str(n / 1000) for n in range(1, many + 1)) for many in (num_alphas, num_betas))
        return f"alpha: {{values: [{alphas}]}}\n  beta: {{values: [{betas}]}}"

    # With two distances.
    with pytest.raises(
        SpaceError, match="parameters: must have at most 100000 combinations under method: grid, got 320000; "
    ):
        load(ALPHA, grid(400, 400), {"method": "grid"})
    assert load(ALPHA, grid(125, 400), {"method": "grid"}).method == "grid"
