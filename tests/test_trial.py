"""One trial: repeatable, resumable, and honest about how it ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from gcc_search.collapse import sign_of_collapse
from gcc_search.results.schema import EpochRow
from gcc_search.settings import Collapse, EvaluationSettings, Explanation, TrialSettings
from gcc_search.training.checkpoint import load_checkpoint
from gcc_search.training.evaluation import measure, summarise
from gcc_search.training.loop import train_epoch
from gcc_search.training.networks import build_network
from gcc_search.training.passes import Passes
from gcc_search.trial import (
    Ended,
    Progress,
    Surroundings,
    evaluation_of,
    make_optimizer,
    open_dataset,
    run_trial,
)

CPU = Surroundings(device=torch.device("cpu"))
NOT_REPEATABLE = ("train_seconds", "evaluation_seconds", "peak_memory_bytes")


def run(settings: TrialSettings, surroundings: Surroundings = CPU) -> tuple[list[EpochRow], Ended]:
    *rows, ended = run_trial(settings, surroundings)
    assert isinstance(ended, Ended)
    return rows, ended


def reached(*points: float) -> Callable[[], tuple[float, ...]]:
    """What a baseline that has come so far tells."""
    return lambda: points


def with_recipe(settings: TrialSettings, **changes) -> TrialSettings:
    return settings.model_copy(update={"recipe": settings.recipe.model_copy(update=changes)})


def repeatable(rows: list[EpochRow]) -> list[dict[str, float | None]]:
    return [{name: value for name, value in row.to_dict().items() if name not in NOT_REPEATABLE} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tiny_trial, tmp_path_factory):
    """(rows, ended, weights) of three epochs."""
    path = tmp_path_factory.mktemp("undisturbed") / "network.safetensors"
    rows, ended = run(with_recipe(tiny_trial, epochs=3), replace(CPU, weights_file=path))
    return rows, ended, load_file(path)


def test_a_trial_yields_a_row_an_epoch_and_then_its_end(undisturbed):
    rows, ended, _ = undisturbed
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert (ended.status, ended.reason) == ("finished", None)
    assert ended.summary == summarise(ended.columns)
    assert int((~ended.columns["iauc"].isnan()).sum()) == 2


def test_equal_settings_give_equal_rows_and_columns_bit_for_bit(tiny_trial, undisturbed):
    rows, ended = run(with_recipe(tiny_trial, epochs=3))
    assert repeatable(rows) == repeatable(undisturbed[0])
    for name, values in undisturbed[1].columns.items():
        assert_close(ended.columns[name], values, rtol=0, atol=0, equal_nan=True)


def test_activations_that_are_computed_again_change_no_bit(tiny_trial, undisturbed):
    again = with_recipe(tiny_trial, epochs=3).model_copy(update={"activation_checkpointing": True})
    rows, ended = run(again)
    assert repeatable(rows) == repeatable(undisturbed[0])
    assert_close(ended.columns["consistency"], undisturbed[1].columns["consistency"], rtol=0, atol=0, equal_nan=True)


def with_explanation(settings: TrialSettings, **changes) -> TrialSettings:
    return settings.model_copy(update={"explanation": settings.explanation.model_copy(update=changes)})


def test_a_photometric_trial_is_another_that_is_resumed_bit_for_bit(tiny_trial, undisturbed, tmp_path):
    settings = with_explanation(with_recipe(tiny_trial, epochs=3), photometric=0.5)
    rows, ended = run(settings)
    assert ended.status == "finished"
    assert rows[0].loss != undisturbed[0][0].loss
    first = run_trial(settings, replace(CPU, checkpoints=tmp_path))
    before = [next(first) for _ in range(2)]
    first.close()
    after, ended_again = run(settings, replace(CPU, checkpoints=tmp_path))
    assert repeatable(before[:1] + after) == repeatable(rows)
    assert ended_again.summary == ended.summary


def test_a_projected_trial_is_another_that_is_resumed_bit_for_bit(tiny_trial, undisturbed, tmp_path):
    settings = with_explanation(with_recipe(tiny_trial, epochs=3), opposing="projected")
    rows, ended = run(settings)
    assert ended.status == "finished"
    assert rows[-1].loss != undisturbed[0][-1].loss
    first = run_trial(settings, replace(CPU, checkpoints=tmp_path))
    before = [next(first) for _ in range(2)]
    first.close()
    after, _ = run(settings, replace(CPU, checkpoints=tmp_path))
    assert repeatable(before[:1] + after) == repeatable(rows)


def test_photometric_is_nothing_to_a_trial_of_one_view(tiny_trial):
    one_view = {"alpha": 0.0, "beta": 0.1}
    rows, others = (run(with_explanation(tiny_trial, **one_view, photometric=share))[0] for share in (0.0, 1.0))
    assert repeatable(rows) == repeatable(others)


def test_another_seed_gives_other_rows(tiny_trial, undisturbed):
    rows, _ = run(tiny_trial.model_copy(update={"seed": 8}))
    assert rows[0].loss != undisturbed[0][0].loss


def test_another_seed_shows_the_images_otherwise(tiny_trial, undisturbed, tmp_path):
    save_file(undisturbed[2], tmp_path / "network.safetensors")
    settings = tiny_trial.model_copy(update={"weights": str(tmp_path / "network.safetensors")})
    (first, *_), (second, *_) = (run(settings.model_copy(update={"seed": seed}))[0] for seed in (0, 1))
    assert first.loss != second.loss


def test_the_optimizer_is_the_recipes(tiny_trial):
    settings = with_recipe(tiny_trial, momentum=0.5, weight_decay=0.25)
    network = build_network("convnet_small", num_classes=8, weights="none", seed=0)
    (group,) = make_optimizer(network, settings).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.01, 0.5, 0.25, False)
    assert len(group["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize("rows_before", [1, 2, 3])
def test_a_trial_closed_after_any_epoch_ends_as_the_undisturbed_one(tiny_trial, undisturbed, tmp_path, rows_before):
    settings = with_recipe(tiny_trial, epochs=3)
    surroundings = replace(CPU, checkpoints=tmp_path / "checkpoint", weights_file=tmp_path / "network.safetensors")
    first = run_trial(settings, surroundings)
    before = [next(first) for _ in range(rows_before)]
    first.close()
    rows, ended = run(settings, surroundings)
    assert repeatable(before[: rows_before - 1] + rows) == repeatable(undisturbed[0])
    assert ended.summary == undisturbed[1].summary
    weights = load_file(surroundings.weights_file)
    assert all(torch.equal(weights[name], values) for name, values in undisturbed[2].items())


def test_a_trial_killed_before_its_last_word_only_says_that(tiny_trial, undisturbed, tmp_path):
    settings, surroundings = with_recipe(tiny_trial, epochs=3), replace(CPU, checkpoints=tmp_path)
    run(settings, surroundings)
    assert load_checkpoint(tmp_path).epoch == 3
    rows, ended = run(settings, surroundings)
    assert rows == []
    assert ended.summary == undisturbed[1].summary


def test_a_huge_learning_rate_is_a_result_without_test_images(tiny_trial, tmp_path):
    surroundings = replace(CPU, weights_file=tmp_path / "network.safetensors")
    (row,), ended = run(with_recipe(tiny_trial, lr=1e30), surroundings)
    assert ended == Ended(status="diverged", reason="loss was not finite in epoch 1", columns=None, summary=None)
    assert math.isnan(row.loss)
    assert (row.accuracy_points, row.consistency) == (0, None)
    assert list(tmp_path.iterdir()) == []


def test_finite_weights_in_which_images_overflow_have_diverged(tiny_trial):
    # One step: no loss is taken in the weights that it leaves.
    (row,), ended = run(with_recipe(tiny_trial, lr=3e37, batch_size=64))
    assert ended.status == "diverged"
    assert math.isnan(row.loss)
    assert math.isfinite(row.cross_entropy)


def test_accuracy_far_under_the_baselines_is_a_collapse_scored_without_insertion(tiny_trial):
    (row,), ended = run(with_recipe(tiny_trial, epochs=1), replace(CPU, reference=reached(100.0, 100.0)))
    assert ended.status == "collapsed"
    assert ended.reason == f"accuracy {100 - row.accuracy_points:.1f} points under the baseline's in epoch 1"
    assert ended.columns["iauc"].isnan().all()
    assert ended.summary["consistency"] is not None


@pytest.mark.parametrize(("reference", "epoch"), [((100.0,), 2), ((0.0, 100.0), 4), ((0.0, 0.0, 0.0, 0.0, 100.0), 5)])
def test_a_trial_is_compared_with_the_baseline_of_half_the_epochs_and_at_last_with_all(tiny_trial, reference, epoch):
    rows, ended = run(with_recipe(tiny_trial, epochs=5), replace(CPU, reference=reached(*reference)))
    assert [row.epoch for row in rows] == list(range(1, epoch + 1))
    assert ended.reason.endswith(f"points under the baseline's in epoch {epoch}")


def test_a_dip_is_no_collapse_before_it_is_looked_for(tiny_trial):
    settings = with_recipe(tiny_trial, epochs=3).model_copy(update={"collapse": Collapse(min_epochs=2)})
    rows, ended = run(settings, replace(CPU, reference=reached(100.0, 100.0, 100.0)))
    assert (len(rows), ended.reason[-7:]) == (2, "epoch 2")
    # Looked for after the last one in any case.
    late = settings.model_copy(update={"collapse": Collapse(min_epochs=9)})
    rows, ended = run(late, replace(CPU, reference=reached(100.0, 100.0, 100.0)))
    assert (len(rows), ended.status) == (3, "collapsed")
    # So far under it none can be.
    far = late.model_copy(update={"collapse": Collapse(points=100)})
    rows, ended = run(far, replace(CPU, reference=reached(100.0, 100.0, 100.0)))
    assert (len(rows), ended.status) == (3, "finished")


def test_constant_maps_are_a_collapse(tiny_trial, tmp_path):
    state = build_network("convnet_small", num_classes=8, weights="none", seed=0).model.state_dict()
    dark = {name: values * (not name.startswith("stages.3.1")) for name, values in state.items()}
    save_file({name: values.contiguous() for name, values in dark.items()}, tmp_path / "dark.safetensors")
    settings = with_recipe(tiny_trial, lr=1e-30).model_copy(update={"weights": str(tmp_path / "dark.safetensors")})
    _, ended = run(settings, replace(CPU, reference=reached(0.0)))
    assert (ended.status, ended.reason) == ("collapsed", "100% of the maps constant in epoch 1")


def test_consistent_maps_that_ignore_the_image_are_a_collapse(undisturbed):
    row = replace(undisturbed[0][-1], corrected_consistency=0.04, consistency=0.95, degenerate_fraction=0.0)
    assert sign_of_collapse(row, 0.0, limit=10) == "maps ignore the image (C* 0.04, consistency 0.95)"
    assert sign_of_collapse(replace(row, consistency=0.89), 0.0, limit=10) is None
    assert sign_of_collapse(replace(row, corrected_consistency=0.06), 0.0, limit=10) is None


def test_ten_points_under_the_baseline_are_no_collapse_yet(undisturbed):
    row = replace(undisturbed[0][-1], accuracy_points=80.0, corrected_consistency=0.5, degenerate_fraction=0.5)
    assert sign_of_collapse(row, 90.0, limit=10) is None
    assert sign_of_collapse(row, 90.5, limit=10) == "accuracy 10.5 points under the baseline's"
    # Of 1000 images 12 and 112 are not 10 points apart to the last bit.
    assert 100 * (112 / 1000) - 100 * (12 / 1000) > 10
    assert sign_of_collapse(replace(row, accuracy_points=100 * (12 / 1000)), 100 * (112 / 1000), limit=10) is None


def test_without_alpha_and_beta_a_trial_is_a_baseline(tiny_trial):
    rows, ended = run(tiny_trial.model_copy(update={"explanation": Explanation()}))
    assert {(row.consistency_loss, row.sparsity_loss) for row in rows} == {(None, None)}
    assert all(row.loss == pytest.approx(row.cross_entropy) for row in rows)
    assert ended.status == "finished"
    assert ended.summary["consistency"] is not None


@pytest.fixture
def left_behind(undisturbed, tmp_path):
    """The network that the undisturbed trial saved."""
    save_file(undisturbed[2], tmp_path / "network.safetensors")
    weights = str(tmp_path / "network.safetensors")
    return build_network("convnet_small", num_classes=8, weights=weights, seed=0)


def test_the_network_left_behind_is_the_one_that_was_tested(tiny_trial, undisturbed, shapes, left_behind):
    evaluation = evaluation_of(tiny_trial, CPU.device, insertion=True)
    for name, values in measure(Passes(left_behind), shapes.test, evaluation).items():
        assert_close(values, undisturbed[1].columns[name], rtol=0, atol=0, equal_nan=True)


def test_a_row_is_measured_on_the_validation_split(tiny_trial, undisturbed, shapes, left_behind):
    evaluation = evaluation_of(tiny_trial, CPU.device, insertion=False)
    summary = summarise(measure(Passes(left_behind), shapes.validation, evaluation))
    row = undisturbed[0][-1].to_dict()
    shared = summary.keys() & row.keys()
    assert {"accuracy_points", "consistency", "gini", "box_mass"} <= shared
    assert {name: row[name] for name in shared} == {name: summary[name] for name in shared}


def test_progress_runs_through_every_phase_to_its_end(tiny_trial):
    seen: list[Progress] = []
    run(tiny_trial, replace(CPU, on_progress=seen.append))
    ends = [(state.phase, state.epoch) for state in seen if state.done == state.total]
    assert ends == [("train", 1), ("validate", 1), ("train", 2), ("validate", 2), ("test", 2)]


def test_trials_of_one_process_share_the_images(tiny_trial):
    assert open_dataset(tiny_trial.data, 32) is open_dataset(tiny_trial.data.model_copy(), 32)


def test_memory_is_counted_in_bytes(undisturbed):
    # torch alone is more than 50 MB, and these images are small.
    assert all(50e6 < row.peak_memory_bytes < 50e9 for row in undisturbed[0])


def test_a_network_is_measured_as_the_evaluation_asks_whatever_its_own_seed(tiny_trial):
    asked = EvaluationSettings(seed=3, batch_size=7, insertion_images=5)
    settings = tiny_trial.model_copy(update={"seed": 5, "evaluation": asked})
    found = evaluation_of(settings, CPU.device, insertion=True)
    assert (found.seed, found.batch_size, found.insertion_images) == (3, 7, 5)
    assert (found.image_size, found.crop) == (32, 1.0)
    assert evaluation_of(settings, CPU.device, insertion=False).insertion_images == 0


@pytest.mark.parametrize("is_asked", [True, False])
def test_blocks_are_computed_again_where_asked(tiny_trial, monkeypatch, is_asked):
    seen = []

    def noted(network, *given, **named):
        seen.append(network.is_recomputed)
        return train_epoch(network, *given, **named)

    monkeypatch.setattr("gcc_search.trial.train_epoch", noted)
    run(with_recipe(tiny_trial, epochs=1).model_copy(update={"activation_checkpointing": is_asked}))
    assert seen == [is_asked]


def test_a_loss_that_is_not_finite_is_said_first_and_nothing_is_scored(tiny_trial):
    """Such a network is far under its baseline as well."""
    surroundings = replace(CPU, reference=reached(90.0))
    _, ended = run(with_recipe(tiny_trial, epochs=1, lr=1e30), surroundings)
    assert (ended.status, ended.columns) == ("diverged", None)
