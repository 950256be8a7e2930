"""What a trial will cost, guessed from steps that are taken as trials take them."""

from __future__ import annotations

import time

import pytest
import torch

from gcc_search import cost as costing
from gcc_search.cost import estimate_cost
from gcc_search.errors import ResourceError
from gcc_search.footprint import random_network
from gcc_search.settings import EvaluationSettings, Explanation, Recipe
from gcc_search.training.datasets import load_dataset
from gcc_search.training.steps import Steps
from gcc_search.trial import Surroundings, run_trial
from tests.gpu_alone import alone

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: no step is replayed")


def cost_of(settings, data, *, start: Recipe | None = None, device: torch.device = CPU):
    return estimate_cost(settings, epochs=settings.recipe.epochs, start=start, data=data, device=device)


@pytest.mark.parametrize("weights", ["none", "baseline"])
def test_a_trial_and_its_baseline_cost_something(tiny_trial, shapes, weights):
    cost = cost_of(tiny_trial.model_copy(update={"weights": weights}), shapes, start=Recipe(epochs=3))
    # Twice as much, on a machine where nobody else is at work.
    assert 2 * cost.trial_seconds > cost.baseline_seconds > 0
    assert cost.start_seconds > 0


def test_without_a_start_network_there_is_no_cost_of_one(tiny_trial, shapes):
    assert cost_of(tiny_trial, shapes).start_seconds == 0


def test_a_trial_without_terms_costs_what_its_baseline_does(tiny_trial, shapes):
    cost = cost_of(tiny_trial.model_copy(update={"explanation": Explanation()}), shapes)
    assert cost.trial_seconds == cost.baseline_seconds


def test_guessing_the_cost_leaves_the_global_generator_alone(tiny_trial, shapes):
    before = torch.get_rng_state()
    cost_of(tiny_trial, shapes)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def steps_taken(monkeypatch):
    """(images, with consistency, with sparsity) of every step, as it is taken."""
    taken, take = [], Steps.take

    def noted(self, shown, *, of):
        done = take(self, shown, of=of)
        consistency, sparsity = done.values().tolist()[2:]
        taken.append((of, consistency > 0, sparsity > 0))
        return done

    monkeypatch.setattr(Steps, "take", noted)
    return taken


def test_steps_are_those_of_training_with_the_trials_own_terms(tiny_trial, shapes, steps_taken):
    cost_of(tiny_trial, shapes)
    batch = tiny_trial.recipe.batch_size
    assert set(steps_taken) == {(batch, False, False), (batch, True, True)}


def test_each_network_is_billed_for_its_own_steps_and_for_the_images_that_there_are(tiny_trial, shapes, monkeypatch):
    def step_seconds(settings, *given):
        return 2.0 if settings.explanation.alpha else 0.5

    monkeypatch.setattr(costing, "_step_seconds", step_seconds)
    monkeypatch.setattr(costing, "_scoring_seconds", lambda *given: (0.25, 2.0))
    settings = tiny_trial.model_copy(update={"evaluation": EvaluationSettings(insertion_images=1000)})
    cost = cost_of(settings, shapes, start=Recipe(epochs=3))
    # 64 images to train, 16 to validate, 16 to test, all of these inserted; two epochs, three of the start network.
    test = 0.25 * 16 + 2.0 * 16
    assert cost.trial_seconds == 2 * (2.0 * 64 + 0.25 * 16) + test
    assert cost.baseline_seconds == 2 * (0.5 * 64 + 0.25 * 16) + test
    assert cost.start_seconds == 3 * (0.5 * 64 + 0.25 * 16) + test


def test_a_baseline_is_billed_for_both_views_where_cross_entropy_is_on_both(tiny_trial, shapes, monkeypatch):
    timed = []
    monkeypatch.setattr(costing, "_step_seconds", lambda settings, *given: timed.append(settings.explanation) or 0.5)
    monkeypatch.setattr(costing, "_scoring_seconds", lambda *given: (0.25, 2.0))
    explanation = tiny_trial.explanation.model_copy(update={"ce_on_views": "both", "photometric": 0.5})
    cost_of(tiny_trial.model_copy(update={"explanation": explanation}), shapes, start=Recipe(epochs=3))
    assert timed == [Explanation(ce_on_views="both", photometric=0.5), explanation, Explanation()]


def test_a_start_network_is_billed_by_steps_of_its_own_batch_size(tiny_trial, shapes, steps_taken):
    cost_of(tiny_trial, shapes, start=Recipe(batch_size=24))
    assert set(steps_taken) == {(16, False, False), (16, True, True), (24, False, False)}


def test_a_trial_is_billed_for_as_many_epochs_as_it_has_in_the_mean(tiny_trial, shapes, monkeypatch):
    monkeypatch.setattr(costing, "_step_seconds", lambda *given: 0.5)
    monkeypatch.setattr(costing, "_scoring_seconds", lambda *given: (0.25, 2.0))
    cost = estimate_cost(tiny_trial, epochs=1.5, start=Recipe(epochs=3), data=shapes, device=CPU)
    epoch = 0.5 * len(shapes.train) + 0.25 * len(shapes.validation)
    # Two images with insertion and deletion.
    test = 0.25 * len(shapes.test) + 2 * 2.0
    assert (cost.trial_seconds, cost.start_seconds) == (1.5 * epoch + test, 3 * epoch + test)


def test_a_rate_at_which_the_loss_runs_away_costs_no_less(tiny_trial, shapes, monkeypatch):
    finite, take = [], Steps.take

    def noted(self, *given, of, **named):
        done = take(self, *given, of=of, **named)
        finite.append(bool(done.values().isfinite().all()))
        return done

    monkeypatch.setattr(Steps, "take", noted)
    recipe = tiny_trial.recipe.model_copy(update={"lr": 1e30})
    cost_of(tiny_trial.model_copy(update={"recipe": recipe}), shapes)
    assert len(finite) > 2
    assert all(finite)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_trial_that_does_not_fit_is_told_in_one_line(tiny_trial, shapes, monkeypatch, error):
    def refuse(self, shown, *, of):
        raise error

    monkeypatch.setattr(Steps, "take", refuse)
    told = (
        r"--dry-run: one trial must fit on this machine, got convnet_small at 32 px, batch 16: out of memory \(.* free"
    )
    with pytest.raises(ResourceError, match=told):
        cost_of(tiny_trial, shapes)


def test_any_other_error_stays_what_it_is(tiny_trial, shapes, monkeypatch):
    def refuse(self, shown, *, of):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Steps, "take", refuse)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        cost_of(tiny_trial, shapes)


@pytest.fixture
def small_gpu():
    """Half a percent of the GPU there is, some 400 MiB."""
    torch.cuda.set_per_process_memory_fraction(0.005)
    yield torch.device("cuda")
    torch.cuda.set_per_process_memory_fraction(1.0)


@alone
@needs_cuda
def test_a_trial_that_a_gpu_does_not_hold_is_told_in_one_line(tiny_trial, small_gpu):
    data = tiny_trial.data.model_copy(update={"num_images": 200})
    recipe = tiny_trial.recipe.model_copy(update={"batch_size": 64, "image_size": 128})
    settings = tiny_trial.model_copy(update={"recipe": recipe, "data": data, "network": "resnet50"})
    with pytest.raises(ResourceError, match=r"one trial must fit on .*, got resnet50 at 128 px, batch 64: out of memo"):
        cost_of(settings, load_dataset(data, image_size=128), device=small_gpu)


def test_a_gpu_that_scores_images_one_by_one_is_billed_for_insertion(tiny_trial, shapes, monkeypatch):
    shown = []
    monkeypatch.setattr(costing, "random_network", lambda settings, data, device: random_network(settings, data, CPU))
    monkeypatch.setattr(costing, "measure", lambda passes, images, asked: shown.append(asked.insertion_images))
    settings = tiny_trial.model_copy(update={"evaluation": EvaluationSettings(insertion_images=2, batch_size=1)})
    costing._scoring_seconds(settings, shapes, torch.device("cuda"))
    assert shown[-1] == 1


def seconds_of(settings, device: torch.device) -> float:
    begun = time.perf_counter()
    for _ in run_trial(settings, Surroundings(device=device)):
        pass
    return time.perf_counter() - begun


def test_a_trial_takes_about_as_long_as_was_guessed(tiny_trial, shapes):
    recipe = tiny_trial.recipe.model_copy(update={"epochs": 10})
    settings = tiny_trial.model_copy(update={"recipe": recipe})
    guessed = cost_of(settings, shapes).trial_seconds
    # Far apart: others may be at work on this machine while one of them is measured.
    assert guessed / 10 < seconds_of(settings, CPU) < 10 * guessed


@alone
@needs_cuda
def test_replayed_steps_are_what_is_timed_on_a_gpu(tiny_trial):
    device, data = torch.device("cuda"), tiny_trial.data.model_copy(update={"num_images": 1200})
    recipe = tiny_trial.recipe.model_copy(update={"epochs": 20, "image_size": 64})
    settings = tiny_trial.model_copy(update={"recipe": recipe, "data": data, "network": "resnet18"})
    images = load_dataset(data, image_size=64)
    guessed = cost_of(settings, images, device=device).trial_seconds
    # Kernels are loaded and chosen once in a process.
    seconds_of(settings.model_copy(update={"recipe": recipe.model_copy(update={"epochs": 1})}), device)
    assert guessed / 2 < seconds_of(settings, device) < 2 * guessed
