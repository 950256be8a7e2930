"""One trial from start to finish: settings in, one row per epoch out, then the per-image measures. Needs no Ray.

`run_trial` trains and yields; `record_trial` does the same and keeps the trial's directory. Ray reports the rows, a
laptop prints them, a test keeps them in a list.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gcc_search.collapse import Judge
from gcc_search.patience import UNHEARD, Contact, patiently
from gcc_search.results.schema import EpochRow, Status
from gcc_search.settings import DataSettings, TrialSettings
from gcc_search.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from gcc_search.training.crew import OVER, Crew
from gcc_search.training.datasets import DataSet, eval_crop_of, load_dataset
from gcc_search.training.evaluation import Columns, measure, summarise
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.examples import example_columns
from gcc_search.training.fresh_network import fresh_network
from gcc_search.training.learner import Learner, leading
from gcc_search.training.loop import EpochPlan, TrainStats, train_epoch
from gcc_search.training.memory import peak_bytes
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.passes import Passes
from gcc_search.training.terms import LossTerms, loss_terms


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial's last word: finished, diverged or collapsed.

    Args:
        columns: the test images, None where not scored. examples: a few of them with their maps, likewise.
    """

    status: Status
    reason: str | None
    columns: Columns | None
    summary: dict[str, float | None] | None
    examples: dict[str, list[Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a trial stands: `phase` is train, validate or test; counts are images (test: forward passes)."""

    phase: str
    epoch: int
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a trial finds where it runs, and what does not change its numbers.

    Args:
        reference: tells the baseline's validation accuracy after each epoch so far, in points; None for a baseline.
        earlier: rows from before it was interrupted, up to the state that it goes on from.
        checkpoints: folder for the latest two states; None keeps none. A trial goes on from what it finds there.
        weights_file: where the trained network is left; None leaves none.
        on_progress: called many times an epoch.
        contact: who hears of a full disk.
        crew: the processes that train it together, this one at rank 0; None: it is alone. Numbers differ by the order
            of sums.
    """

    device: torch.device
    reference: Callable[[], Sequence[float]] | None = None
    earlier: Sequence[EpochRow] = ()
    checkpoints: Path | None = None
    weights_file: Path | None = None
    on_progress: Callable[[Progress], None] | None = None
    contact: Contact = UNHEARD
    crew: Crew | None = None


@functools.lru_cache(maxsize=4)
def open_dataset(settings: DataSettings, image_size: int) -> DataSet:
    """The data set, memory-mapped; trials that follow each other in one process share it."""
    return load_dataset(settings, image_size=image_size)


def run_trial(settings: TrialSettings, surroundings: Surroundings) -> Iterator[EpochRow | Ended]:
    """Trains one network and yields an `EpochRow` per epoch, then `Ended`.

    Equal settings give equal rows (but for seconds and bytes), bit for bit on the CPU with as many threads, resumed or
    not.

    Raises:
        DataError, WeightsError: see `load_dataset`, `build_network`.
    """
    data = open_dataset(settings.data, settings.recipe.image_size)
    device = surroundings.device
    network = fresh_network(
        settings.network, num_classes=len(data.classes), weights=settings.weights, seed=settings.seed
    ).to(device)
    network.is_recomputed = settings.activation_checkpointing
    optimizer = make_optimizer(network, settings)
    last_epoch = _restore(network, optimizer, surroundings.checkpoints)
    failure: tuple[Status, str] | None = None
    judge = Judge(
        settings.collapse, surroundings.reference, epochs=settings.recipe.epochs, earlier=surroundings.earlier
    )
    with leading(surroundings.crew, network, optimizer, loss_terms) as learner:
        passes = Passes(network, after=lambda: learner.graph)
        for epoch in range(last_epoch + 1, settings.recipe.epochs + 1):
            row = _run_epoch(passes, optimizer, learner, data, settings, surroundings, epoch)
            # The row is kept before the state is: a trial killed in between repeats the epoch, and loses no row.
            yield row
            if failure := judge.verdict(row):
                break
            if surroundings.checkpoints:
                save = functools.partial(save_checkpoint, surroundings.checkpoints, network, optimizer, epoch=epoch)
                patiently(save, surroundings.contact)
    status, reason = failure or ("finished", None)
    yield _end(passes, data, settings, surroundings, status=status, reason=reason)


def assist(settings: TrialSettings, crew: Crew, device: torch.device) -> None:
    """What the other processes of a crew do while rank 0 runs the trial: their share of every batch, until it is over.

    Network and momentum are rank 0's, whatever it found to go on from. Rows, files and scores are left to it.

    Raises:
        DataError: see `load_dataset`. RuntimeError: another process of the crew is gone.
    """
    if crew.hear() == OVER:
        return
    data = open_dataset(settings.data, settings.recipe.image_size)
    network = build_network(settings.network, num_classes=len(data.classes), weights="none", seed=settings.seed)
    network = network.to(device)
    network.is_recomputed = settings.activation_checkpointing
    optimizer = make_optimizer(network, settings)
    learner = Learner(network, loss_terms, optimizer=optimizer, crew=crew)
    while (epoch := crew.hear()) != OVER:
        train_epoch(network, data.train, optimizer, plan_of(settings, device, epoch), learner=learner)


def make_optimizer(network: Network, settings: TrialSettings) -> torch.optim.SGD:
    """SGD as in the paper's section 3.3.3; in one kernel where the network is on a GPU."""
    recipe = settings.recipe
    return torch.optim.SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=next(network.parameters()).is_cuda,
    )


def evaluation_of(settings: TrialSettings, device: torch.device, *, insertion: bool) -> Evaluation:
    """How this trial's network is measured; `insertion` adds the costly insertion and deletion curves."""
    asked = settings.evaluation
    return Evaluation(
        image_size=settings.recipe.image_size,
        crop=eval_crop_of(settings.data.name),
        seed=asked.seed,
        batch_size=asked.batch_size,
        device=device,
        insertion_images=asked.insertion_images if insertion else 0,
    )


def _restore(network: Network, optimizer: torch.optim.Optimizer, folder: Path | None) -> int:
    checkpoint = load_checkpoint(folder) if folder else None
    if checkpoint is None:
        return 0
    checkpoint.restore(network, optimizer)
    return checkpoint.epoch


def _run_epoch(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    learner: Learner[LossTerms],
    data: DataSet,
    settings: TrialSettings,
    surroundings: Surroundings,
    epoch: int,
) -> EpochRow:
    device = surroundings.device
    plan = plan_of(settings, device, epoch)
    if surroundings.crew:
        surroundings.crew.tell(epoch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started = time.monotonic()
    on_step = _report(surroundings, "train", epoch)
    stats = train_epoch(passes.network, data.train, optimizer, plan, learner=learner, on_step=on_step)
    trained = time.monotonic()
    validation: dict[str, float | None] = {"accuracy_points": 0.0}
    if stats.finite:
        evaluation = evaluation_of(settings, device, insertion=False)
        on_step = _report(surroundings, "validate", epoch)
        columns = measure(passes, data.validation, evaluation, own_classes=False, on_step=on_step)
        # Finite weights can be so large that the images overflow in them.
        if columns["confidence"].isfinite().all():
            validation = summarise(columns)
        else:
            stats = replace(stats, finite=False)
    seconds = (trained - started, time.monotonic() - trained)
    return _row(plan, stats, validation, seconds=seconds, peak=float(peak_bytes(device)))


def plan_of(settings: TrialSettings, device: torch.device, epoch: int) -> EpochPlan:
    """What happens in an epoch of this trial, counted from 1."""
    return EpochPlan(
        recipe=settings.recipe, explanation=settings.explanation, epoch=epoch, seed=settings.seed, device=device
    )


def _row(
    plan: EpochPlan,
    stats: TrainStats,
    validation: dict[str, float | None],
    *,
    seconds: tuple[float, float],
    peak: float,
) -> EpochRow:
    measured = {name: validation.get(name) for name in _VALIDATION_COLUMNS}
    accuracy = validation["accuracy_points"]
    assert accuracy is not None, "accuracy exists for any images"
    return EpochRow(
        epoch=plan.epoch,
        lr=plan.lr,
        loss=stats.loss if stats.finite else math.nan,
        cross_entropy=stats.cross_entropy,
        consistency_loss=stats.consistency_loss,
        sparsity_loss=stats.sparsity_loss,
        accuracy_points=accuracy,
        train_seconds=seconds[0],
        evaluation_seconds=seconds[1],
        peak_memory_bytes=peak,
        **measured,
    )


_VALIDATION_COLUMNS = (
    "consistency",
    "chance",
    "corrected_consistency",
    "correlation",
    "gini",
    "mass_half",
    "degenerate_fraction",
    "box_mass",
    "pointing",
)


def _end(
    passes: Passes,
    data: DataSet,
    settings: TrialSettings,
    surroundings: Surroundings,
    *,
    status: Status,
    reason: str | None,
) -> Ended:
    """Scores the test split once. A collapsed network is scored without insertion; a diverged one not at all."""
    if status == "diverged":
        return Ended(status=status, reason=reason, columns=None, summary=None)
    if surroundings.weights_file:
        patiently(functools.partial(save_weights, surroundings.weights_file, passes.network), surroundings.contact)
    evaluation = evaluation_of(settings, surroundings.device, insertion=status == "finished")
    on_step = _report(surroundings, "test", settings.recipe.epochs)
    columns = measure(passes, data.test, evaluation, on_step=on_step)
    examples = example_columns(passes, data.test, evaluation, columns)
    return Ended(status=status, reason=reason, columns=columns, summary=summarise(columns), examples=examples)


def _report(surroundings: Surroundings, phase: str, epoch: int) -> Callable[[int, int], None] | None:
    on_progress, crew = surroundings.on_progress, surroundings.crew
    # The others have nothing to do with the test split, and are gone by then.
    is_watched = crew is not None and phase != "test"
    if on_progress is None and not is_watched:
        return None

    def on_step(done: int, total: int) -> None:
        if crew is not None and is_watched:
            crew.raise_if_lost()
        if on_progress is not None:
            on_progress(Progress(phase=phase, epoch=epoch, done=done, total=total))

    return on_step
