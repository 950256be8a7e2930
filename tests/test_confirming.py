"""`gcc-search recommend --confirm`: the space file it writes is one, of the trial's own settings and of other seeds."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from gcc_search.analysis.recommendation import Wish, recommend
from gcc_search.confirming import check_space_target, confirming_space, write_confirming_space
from gcc_search.errors import ResultsError
from gcc_search.results.reader import read_run, read_run_record
from gcc_search.results.writer import write_run
from gcc_search.settings import TrialSettings
from gcc_search.space import SearchSpace, load_space


def asked_for(**changes) -> SearchSpace:
    space = {
        "name": "found",
        "networks": ["resnet18", "convnet_small"],
        "weights": "none",
        "data": {"name": "shapes", "num_images": 96},
        "recipe": {"epochs": 3, "image_size": 64},
        "explanation": {"distance": "correlation"},
        "collapse": {"points": 20},
        "parameters": {
            "alpha": {"distribution": "log_uniform_values", "min": 0.1, "max": 10},
            "lr": {"values": [1, 2]},
        },
        "metrics": [{"name": "gini"}],
        "constraints": ["accuracy >= baseline - 1"],
        "run_cap": 8,
        "max_hours": 2,
        "early_terminate": {"type": "asha"},
        "resources": {"cpus_per_trial": 2},
    }
    return SearchSpace.model_validate(space | changes)


def trial_of(asked: SearchSpace, **sampled) -> TrialSettings:
    return asked.settings("convnet_small", sampled)


def test_every_trial_has_the_recommended_ones_settings_but_the_seed():
    asked = asked_for()
    settings = trial_of(asked, alpha=0.25, lr=2, seed=1)
    space = confirming_space(asked, settings, num_seeds=3, known={1})
    assert space.method == "grid"
    assert space.parameters["seed"].values == (0, 2, 3)
    others = [space.settings("convnet_small", {"seed": seed}) for seed in (0, 2, 3)]
    assert [other.model_copy(update={"seed": 1}) for other in others] == [settings] * 3


def test_no_seed_is_one_of_those_that_chose():
    asked = asked_for(parameters={"alpha": {"values": [1, 2]}, "seed": {"values": [0, 1, 4]}})
    space = confirming_space(asked, trial_of(asked, alpha=1.0, seed=4), num_seeds=3, known={0, 1, 4})
    assert space.parameters["seed"].values == (2, 3, 5)


def test_what_says_which_trials_are_good_stays_and_what_ends_them_early_goes():
    asked = asked_for()
    space = confirming_space(asked, trial_of(asked, alpha=1.0), num_seeds=2, known={0})
    assert (space.metrics, space.constraints, space.resources) == (asked.metrics, asked.constraints, asked.resources)
    assert (space.name, space.networks) == ("found-seeds", ("convnet_small",))
    assert (space.early_terminate, space.run_cap, space.max_hours, space.points) == (None, None, None, ())


def test_a_start_network_is_trained_under_each_seed_as_well():
    asked = asked_for(weights="baseline", start={"epochs": 2})
    settings = trial_of(asked, alpha=1.0).model_copy(update={"weights": "start:0123"})
    space = confirming_space(asked, settings, num_seeds=2, known={0})
    assert (space.weights, space.start) == ("baseline", asked.start)


def test_weights_of_each_network_stay_those_of_each():
    weights = {"resnet18": "IMAGENET1K_V1", "convnet_small": "none"}
    asked = asked_for(weights=weights)
    assert confirming_space(asked, trial_of(asked, alpha=1.0), num_seeds=2, known={0}).weights == weights


def test_a_name_is_no_longer_than_a_runs_may_be():
    asked = asked_for(name="x" * 64)
    assert confirming_space(asked, trial_of(asked, alpha=1.0), num_seeds=2, known={0}).name == "x" * 58 + "-seeds"


@pytest.fixture
def searched(tiny_run, tiny_trial, tmp_path):
    """A run of a search of the tiny trial's settings."""
    parts = tiny_trial.model_dump(mode="json", include={"data", "recipe", "evaluation", "weights"})
    explanation = tiny_trial.explanation.model_dump()
    asked = asked_for(**parts, explanation=explanation, networks=["convnet_small"], parameters={"p": {"value": 1}})
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    write_run(run, replace(read_run_record(run), space=asked.model_dump(mode="json")))
    return run, asked


def recommended(run):
    return recommend(read_run(run), Wish(max_accuracy_drop=100))


def test_the_file_is_read_as_what_was_written(searched, tmp_path):
    run, asked = searched
    path = tmp_path / "my seeds.yaml"
    command = write_confirming_space(recommended(run), path, num_seeds=4, chosen_among=read_run(run).trials)
    assert command == f"gcc-search --space '{path}' --gpus N"
    space = load_space(path)
    trial = read_run(run).trials[0].record
    assert space == confirming_space(asked, TrialSettings.model_validate(trial.settings), num_seeds=4, known={7})
    assert f"# What:     The settings of tiny/trials/{trial.id}, which" in path.read_text()
    assert "# Expect:   8 networks." in path.read_text()


def test_networks_to_start_from_are_counted_and_a_folders_name_stays_a_comment(searched, tmp_path):
    run, asked = searched
    start = asked.model_dump(mode="json") | {"weights": "baseline", "start": {"epochs": 1, "image_size": 32}}
    write_run(run, replace(read_run_record(run), space=start))
    run = run.rename(run.parent / "two\nlines: 3")
    path = tmp_path / "seeds.yaml"
    write_confirming_space(recommended(run), path, num_seeds=2, chosen_among=[])
    assert "a baseline and a network to start from under each" in path.read_text()
    assert "# Expect:   6 networks." in path.read_text()
    assert load_space(path).start is not None


def test_a_run_of_no_whole_space_is_one_line(tiny_run, tmp_path):
    with pytest.raises(ResultsError, match=r"run\.json: space: name: .*; read it with the gcc-search that wrote it"):
        write_confirming_space(recommended(tiny_run), tmp_path / "seeds.yaml", num_seeds=2, chosen_among=[])
    assert not (tmp_path / "seeds.yaml").exists()


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("seeds.json", r"--confirm: must end in \.yaml or \.yml, got .*seeds\.json; as in seeds\.yaml"),
        ("there.yaml", r"there\.yaml: must be a new name, got one that exists; choose another, or add --force"),
        ("folder.yaml", r"--confirm: .*folder\.yaml: must be a file, got a folder"),
    ],
)
def test_a_place_where_no_space_file_belongs_is_one_line(tmp_path, name, rule):
    (tmp_path / "there.yaml").write_text("mine")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ResultsError, match=rule):
        check_space_target(tmp_path / name, force=False)
    check_space_target(tmp_path / "there.yaml", force=True)
