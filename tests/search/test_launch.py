"""Whole searches: what they leave on disk, in the study and on the screen."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from ray.train._internal.storage import StorageContext
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager
from rich.console import Console

from gcc_search.errors import GccSearchError
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.schema import EPOCHS, IMAGES
from gcc_search.search.cluster import local_ray
from gcc_search.search.launch import run_search
from gcc_search.search.readiness import SearchOptions, prepare_search, reopen_search
from gcc_search.search.recall import recall
from tests.search.conftest import ONE_AT_A_TIME, make_space, run_space

pytestmark = pytest.mark.usefixtures("one_ray")


def load_study(result):
    return optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{result.run}/study.db")


def test_every_trial_finishes_and_leaves_its_directory(tiny_search):
    result, _ = tiny_search
    run = read_run(result.run)
    assert [trial.record.status for trial in run.trials] == ["finished"] * 3
    assert run.problems == ()
    for trial in run.trials:
        assert trial.epochs().schema.equals(EPOCHS)
        assert trial.epochs()["epoch"].to_pylist() == [1, 2]
        assert trial.images().schema.equals(IMAGES)
        assert sorted(path.name for path in trial.folder.iterdir()) == [
            "epochs.parquet",
            "heatmaps.parquet",
            "images.parquet",
            "network.safetensors",
            "trial.json",
        ]


def test_all_trials_share_one_start_network_and_one_baseline(tiny_search):
    result, _ = tiny_search
    run = read_run(result.run)
    roles = sorted(trial.record.role for trial in run.baselines.values())
    assert roles == ["baseline", "start"]
    assert {trial.record.baseline for trial in run.trials} == {
        key for key, trial in run.baselines.items() if trial.record.role == "baseline"
    }


def test_run_json_repeats_the_question_and_names_the_images(tiny_search):
    result, _ = tiny_search
    record = read_run(result.run).record
    assert record.space == json.loads(make_space().model_dump_json())
    assert record.command == "gcc-search --space tiny.yaml"
    assert record.data[0]["images"]["test"] > 0
    assert {"torch", "ray", "optuna", "gcc-search"} <= record.versions.keys()


def test_the_study_holds_what_the_trial_directories_say(tiny_search):
    result, _ = tiny_search
    records = {trial.record.id: trial.record for trial in read_run(result.run).trials}
    study = load_study(result)
    assert study.metric_names == ["corrected_consistency", "gini"]
    assert len(study.trials) == 3
    for trial in study.trials:
        record = records[trial.user_attrs["trial_id"]]
        assert trial.params == record.sampled
        assert trial.values == [record.validation["corrected_consistency"], record.validation["gini"]]
        assert trial.constraints["trained"] == 0


def test_lines_are_printed_where_there_is_no_terminal(tiny_search):
    _, printed = tiny_search
    assert printed.count("finished, accuracy") == 5
    assert "convnet_small-0002: started with alpha" in printed
    assert "3/3 trials" in printed
    assert "Warning" not in printed


def test_a_second_run_finds_the_baselines_of_the_first(tiny_search):
    first, _ = tiny_search
    second, _ = run_space(make_space(name="again", run_cap=1), first.run.parent)
    assert [outcome.job.identity.role for outcome in second.outcomes] == ["trial"]
    for key, trial in read_run(second.run).baselines.items():
        assert trial.record == read_trial(first.run / "baselines" / key).record


def test_equal_seeds_sample_and_train_alike_at_one_trial_at_a_time(tiny_search, tmp_path):
    first, _ = tiny_search
    again, _ = run_space(make_space(resources={"cpus_per_trial": 1}, run_cap=1), tmp_path)
    sampled = [[trial.record.sampled for trial in read_run(result.run).trials] for result in (first, again)]
    assert sampled[0][0] == sampled[1][0]
    validation = [read_run(result.run).trials[0].record.validation for result in (first, again)]
    for timing in ("train_seconds", "evaluation_seconds", "peak_memory_bytes"):
        validation[0].pop(timing), validation[1].pop(timing)
    assert validation[0] == validation[1]


def test_diverged_and_failed_trials_are_rows_with_a_reason_and_the_search_goes_on(tmp_path):
    points = [{"alpha": 1e30, "beta": 1.0}, {"alpha": 1.0, "beta": 1.0}]
    space = make_space(
        method="points",
        points=points,
        run_cap=None,
        parameters={"alpha": {"values": [1e30, 1.0]}, "beta": {"value": 1.0}},
        **ONE_AT_A_TIME,
    )
    result, printed = run_space(space, tmp_path)
    diverged, finished = (trial.record for trial in read_run(result.run).trials)
    assert (diverged.status, finished.status) == ("diverged", "finished")
    assert "loss was not finite in epoch" in diverged.reason
    assert diverged.reason in printed
    told = load_study(result).trials[0]
    assert told.state == optuna.trial.TrialState.COMPLETE
    assert told.values == [-1.0, 0.0]
    assert told.constraints["trained"] > 0
    assert result.exit_code == 0


def test_early_stopping_ends_trials_and_tells_them_as_pruned(tmp_path):
    space = make_space(
        run_cap=4,
        recipe={"epochs": 3, "lr": 0.01, "image_size": 32},
        early_terminate={"type": "asha", "min_epochs": 2, "eta": 4},
        **ONE_AT_A_TIME,
    )
    result, _ = run_space(space, tmp_path)
    records = [trial.record for trial in read_run(result.run).trials]
    stopped = [record for record in records if record.status == "stopped"]
    assert 1 <= len(stopped) <= 3
    assert all(record.test is None and record.epochs_done == 2 for record in stopped)
    states = {trial.user_attrs["trial_id"]: trial.state for trial in load_study(result).trials}
    assert {states[record.id] for record in stopped} == {optuna.trial.TrialState.PRUNED}
    assert all(trial.record.status == "finished" for trial in read_run(result.run).baselines.values())
    check_that_early_stopping_survives_a_restart(result.run)


def check_that_early_stopping_survives_a_restart(folder):
    run = read_run(folder)
    console = Console(file=io.StringIO())
    prepared = reopen_search(run, SearchOptions(out=folder.parent, gpus=0), console)
    # Room for two more.
    space = prepared.space.model_copy(update={"run_cap": 6})
    _, scheduler = recall(dataclasses.replace(prepared, space=space), run, console)
    reached = {"epoch": 2, "accuracy_points": 100.0, "corrected_consistency": 1.0, "gini": 1.0}
    place = {"network": "convnet_small", "seed": 0, "baseline": run.trials[0].record.baseline}
    # An empty rung would let it go on; nor would its objectives stop it, were the baseline not known.
    broken = {"epoch": 2, "accuracy_points": -100.0, "corrected_consistency": 1.0, "gini": 1.0}
    assert not scheduler.add("broken", broken, **place)
    assert scheduler.add("best", reached, **place)


def test_a_stop_that_is_swallowed_while_ray_starts_is_a_stop(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def starting(*given, **named):
        # As where the signal comes while a process is forked.
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        with local_ray(*given, **named) as scratch:
            yield scratch

    monkeypatch.setattr("gcc_search.search.launch.local_ray", starting)
    # It would end this process on a machine that is busy for long.
    monkeypatch.setattr("gcc_search.search.launch.ends_when_asked", contextlib.nullcontext)
    result, _ = run_space(make_space(), tmp_path)
    assert result.interrupted
    assert result.outcomes == ()


def test_a_search_that_is_stopped_before_ray_starts_says_how_to_go_on(tmp_path, monkeypatch):
    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("gcc_search.search.launch.make_queue", stopped)
    console = Console(file=io.StringIO(), width=200)
    prepared = prepare_search(make_space(), SearchOptions(out=tmp_path, gpus=0), console)
    with pytest.raises(KeyboardInterrupt):
        run_search(prepared, console)
    assert f"go on:   gcc-search resume {tmp_path}/tiny --gpus 0\n" in console.file.getvalue()


def test_several_networks_get_their_trials_and_baselines(tmp_path):
    space = make_space(
        networks=["convnet_small", "resnet18"],
        weights={"convnet_small": "none", "resnet18": "none"},
        start=None,
        data={"name": "shapes", "num_images": 80},
        recipe={"epochs": 1, "lr": 0.01, "image_size": 64},
        evaluation={"insertion_images": 0},
        run_cap=3,
        **ONE_AT_A_TIME,
    )
    result, _ = run_space(space, tmp_path)
    run = read_run(result.run)
    assert sorted(trial.record.id for trial in run.trials) == [
        "convnet_small-0000",
        "convnet_small-0001",
        "resnet18-0000",
    ]
    assert sorted(trial.record.network for trial in run.baselines.values()) == ["convnet_small", "resnet18"]


def test_values_that_change_the_baseline_get_a_baseline_each(tmp_path):
    parameters = {"alpha": {"value": 1.0}, "seed": {"values": [0, 1]}}
    space = make_space(method="grid", run_cap=None, parameters=parameters, **ONE_AT_A_TIME)
    result, _ = run_space(space, tmp_path)
    run = read_run(result.run)
    assert len({trial.record.baseline for trial in run.trials}) == 2
    assert len(run.baselines) == 4


@pytest.mark.parametrize(
    ("changes", "gpus", "message"),
    [
        ({}, 64, "--gpus: must be at most"),
        ({"resources": {"cpus_per_trial": 4096}}, 0, "resources.cpus_per_trial: must be at most"),
        ({"weights": "/nowhere/weights.pth", "start": None}, 0, "weights: /nowhere/weights.pth: must be a file"),
        ({"data": {"name": "caltech101", "root": "/nowhere"}}, 0, "/nowhere"),
        (
            {"networks": ["resnet18"], "parameters": {"alpha": {"value": 1}, "image_size": {"values": [64, 32]}}},
            0,
            "image_size: must be at least 33 for resnet18, whose maps have one cell below that, got 32",
        ),
    ],
)
def test_a_search_that_cannot_run_says_so_and_writes_nothing(tmp_path, changes, gpus, message):
    with pytest.raises(GccSearchError) as error:
        prepare_search(make_space(**changes), SearchOptions(out=tmp_path / "runs", gpus=gpus), Console())
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_a_name_that_exists_is_refused(tiny_search):
    result, _ = tiny_search
    with pytest.raises(GccSearchError, match="must be a new name, got one that exists; choose another with --name"):
        prepare_search(make_space(), SearchOptions(out=result.run.parent, gpus=0), Console())


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        ("metrics", {"metrics": [{"name": "box_mass"}]}),
        ("constraints", {"constraints": ["box_mass >= baseline"]}),
        ("early_terminate.metric", {"early_terminate": {"type": "asha", "metric": "box_mass"}}),
    ],
)
def test_objects_cannot_be_scored_where_there_are_none(tmp_path, where, changes):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (40, 40), (i * 40, 90, 120)).save(tmp_path / "images" / name / f"{i}.png")
    space = make_space(data={"name": "imagefolder", "root": str(tmp_path / "images")}, run_cap=1, **changes)
    with pytest.raises(GccSearchError, match=f"^{where}: box_mass must have boxes or masks to score, got none"):
        prepare_search(space, SearchOptions(out=tmp_path / "runs", gpus=0), Console())


def test_records_are_plain_values(tiny_search):
    result, _ = tiny_search
    record = read_run(result.run).trials[0].record
    assert dataclasses.replace(record) == record


def test_after_the_first_snapshot_ray_takes_none_of_its_own_accord(tmp_path):
    saved = []
    manager = _ExperimentCheckpointManager(
        storage=StorageContext(storage_path=str(tmp_path), experiment_dir_name="search"),
        checkpoint_period=os.environ["TUNE_GLOBAL_CHECKPOINT_S"],
    )
    Path(manager._storage.experiment_driver_staging_path).mkdir(parents=True)
    for _ in range(2):
        manager.sync_up_experiment_state(save_fn=lambda: saved.append(1))
        # A year later.
        manager._last_save_time -= 365 * 24 * 3600
    assert len(saved) == 1
