"""What a trial will cost: its steps and its scoring timed for a moment, by the very path that trials take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeVar

import psutil
import torch

from gcc_search.baseline import baseline_explanation
from gcc_search.failures import failure_kind
from gcc_search.footprint import CudaMeter, fits_not_once, in_words, random_network
from gcc_search.settings import Explanation, Recipe, TrialSettings
from gcc_search.training.datasets import DataSet
from gcc_search.training.evaluation import measure
from gcc_search.training.image_set import ImageSet
from gcc_search.training.learner import leading
from gcc_search.training.loop import EpochPlan, train_epoch
from gcc_search.training.passes import Passes
from gcc_search.training.terms import loss_terms
from gcc_search.trial import evaluation_of, make_optimizer

Answer = TypeVar("Answer")
# Steps of epochs that are not timed. A GPU takes the first step as it comes, makes a graph of the second, and replays
# that from then on; what makes the batches becomes a graph where an epoch has two.
FIRST_ON_GPU = (1, 1, 2)
# So many steps are timed, or for so long. What comes but once is little beside a step of a second.
MOST_STEPS, ENOUGH_SECONDS = 20, 1.0
# Images scored on a CPU, one of them with insertion: dozens of forward passes.
FEW_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds on one device: of a trial, of its baseline and of its start network."""

    trial_seconds: float
    baseline_seconds: float
    start_seconds: float

    @staticmethod
    def mean(costs: Sequence[Cost]) -> Cost:
        """Of trials that are equally frequent."""
        return Cost(
            trial_seconds=fmean(cost.trial_seconds for cost in costs),
            baseline_seconds=fmean(cost.baseline_seconds for cost in costs),
            start_seconds=fmean(cost.start_seconds for cost in costs),
        )


def estimate_cost(
    settings: TrialSettings, *, epochs: float, start: Recipe | None, data: DataSet, device: torch.device
) -> Cost:
    """From the seconds that an image takes in a step and in scoring, and how many of each there are. Keeps nothing.

    Args:
        settings: of a trial; what its own terms of the loss take is timed apart from its baseline's step.
        epochs: of trials and baselines, in place of those in `settings`: a mean need not be whole.
        start: recipe of the network that trials start from; None where there is none.

    Raises:
        ResourceError: a trial does not fit into the memory of the device.
    """
    baseline = first = settings.model_copy(update={"explanation": baseline_explanation(settings.explanation)})
    if start is not None:
        recipe = settings.recipe.model_copy(update={"batch_size": start.batch_size})
        first = settings.model_copy(update={"recipe": recipe, "explanation": Explanation()})
    kinds = dict.fromkeys((baseline, settings, first))
    step = {kind: _if_it_fits(_step_seconds, kind, data, device) for kind in kinds}
    scored, inserted = _if_it_fits(_scoring_seconds, settings, data, device)
    test = scored * len(data.test) + inserted * min(settings.evaluation.insertion_images, len(data.test))

    def seconds(epochs: float, step: float) -> float:
        return epochs * (step * len(data.train) + scored * len(data.validation)) + test

    return Cost(
        trial_seconds=seconds(epochs, step[settings]),
        baseline_seconds=seconds(epochs, step[baseline]),
        start_seconds=seconds(start.epochs, step[first]) if start else 0.0,
    )


def _if_it_fits(
    task: Callable[[TrialSettings, DataSet, torch.device], Answer],
    settings: TrialSettings,
    data: DataSet,
    device: torch.device,
) -> Answer:
    """What the task returns.

    Raises:
        ResourceError: it needs more memory than there is.
    """
    free = 0
    try:
        free = _free_bytes(device)
        return task(settings, data, device)
    except Exception as error:
        if failure_kind(error) != "memory":
            raise
        place = torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine"
        raise fits_not_once(in_words(settings), place, free, where="--dry-run") from None


def _free_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return psutil.virtual_memory().available
    # What was timed before holds nothing any more.
    torch.cuda.empty_cache()
    return CudaMeter().free(device)


def _step_seconds(settings: TrialSettings, data: DataSet, device: torch.device) -> float:
    """Seconds an image of training, reading and perturbing included."""
    network, batch_size = random_network(settings, data, device), min(settings.recipe.batch_size, len(data.train))
    # Whatever the rate, weights stay as they are, and no loss runs away.
    recipe = settings.recipe.model_copy(update={"lr": 0.0})
    plan = EpochPlan(recipe=recipe, explanation=settings.explanation, epoch=1, seed=settings.seed, device=device)
    optimizer = make_optimizer(network, settings)
    with leading(None, network, optimizer, loss_terms) as learner:

        def epoch(steps: int) -> float:
            images = _first(data.train, steps * batch_size)
            begun = time.perf_counter()
            # It ends with a look at the weights, which waits for the device.
            train_epoch(network, images, optimizer, plan, learner=learner)
            return (time.perf_counter() - begun) / len(images)

        for steps in FIRST_ON_GPU if device.type == "cuda" else ():
            epoch(steps)
        first = epoch(1)
        steps = int(ENOUGH_SECONDS / (first * batch_size))
        return min(first, epoch(min(steps, MOST_STEPS))) if steps else first


def _scoring_seconds(settings: TrialSettings, data: DataSet, device: torch.device) -> tuple[float, float]:
    """Seconds an image of scoring, and of insertion and deletion beside it, 0 where there is none."""
    network = random_network(settings, data, device)
    evaluation = evaluation_of(settings, device, insertion=False)
    is_gpu = device.type == "cuda"
    images = _first(data.test, evaluation.num_maps_together if is_gpu else FEW_IMAGES)
    inserted = min(settings.evaluation.insertion_images, len(images), evaluation.num_inserted_together if is_gpu else 1)

    passes = Passes(network, num_plain=0)

    def seconds(insertion_images: int) -> float:
        begun = time.perf_counter()
        # Its columns are on the CPU: nothing is left to wait for.
        measure(passes, images, replace(evaluation, insertion_images=insertion_images))
        return time.perf_counter() - begun

    # On a GPU the first of its kind loads kernels and makes plans and graphs.
    scored = min(seconds(0) for _ in range(2))
    with_insertion = min(seconds(inserted) for _ in range(2 if is_gpu else 1)) if inserted else scored
    more = max(0.0, with_insertion - scored) / max(1, inserted)
    return scored / len(images), more


def _first(images: ImageSet, count: int) -> ImageSet:
    return images.subset(torch.arange(min(count, len(images))))
