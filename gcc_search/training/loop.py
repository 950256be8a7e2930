"""One epoch of training with L = L_CE + alpha L_C + beta L_S (equation 4), read from top to bottom."""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, apply_transforms, draw_transforms
from gcc_search.saliency.shapes import Images
from gcc_search.seeding import derive_seed
from gcc_search.settings import Explanation, Recipe
from gcc_search.training.datasets import ImageSet
from gcc_search.training.learner import Learner
from gcc_search.training.networks import Network
from gcc_search.training.prefetch import prepared
from gcc_search.training.steps import Shown, Steps, Taken
from gcc_search.training.terms import LossTerms, loss_terms, matrices_for

# ImageNet's channel means and standard deviations, as torchvision's weights expect them.
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """What decides an epoch's numbers, besides the network's state and the images. `epoch` counts from 1."""

    recipe: Recipe
    explanation: Explanation
    epoch: int
    seed: int
    device: torch.device

    def generator(self, purpose: str) -> torch.Generator:
        """CPU generator of one purpose in this epoch: a resumed trial draws what the undisturbed one would have."""
        return torch.Generator().manual_seed(derive_seed(self.seed, self.epoch, purpose))

    @property
    def warmup(self) -> float:
        """Factor on alpha and beta, in (0, 1]."""
        return min(1.0, self.epoch / (self.explanation.warmup_epochs + 1))

    @property
    def alpha(self) -> float:
        """Weight of L_C in this epoch."""
        return self.explanation.alpha * self.warmup

    @property
    def beta(self) -> float:
        """Weight of L_S in this epoch."""
        return self.explanation.beta * self.warmup

    @property
    def lr(self) -> float:
        """Learning rate of this epoch: multiplied by `lr_gamma` every `lr_step_epochs`."""
        return self.recipe.lr * self.recipe.lr_gamma ** ((self.epoch - 1) // self.recipe.lr_step_epochs)


@dataclass(frozen=True, kw_only=True)
class TrainStats:
    """Means over the images trained on, NaN where there were none.

    `finite` is False when the epoch was left at a loss that is not, or ended with such weights.
    """

    loss: float
    cross_entropy: float
    consistency_loss: float | None
    sparsity_loss: float | None
    finite: bool


def prepare(pixels: Tensor, device: torch.device) -> Images:
    """uint8 (B, 3, H, W) -> float32 on `device`, normalised as ImageNet weights expect."""
    shift, per_unit = _channel_scales(device)
    # In one pass, which writes them as convolutions read them: step by step it takes four times as long on a GPU.
    images = torch.empty(pixels.shape, dtype=torch.float32, device=device, memory_format=torch.channels_last)
    return torch.addcmul(shift, pixels.to(device, non_blocking=True), per_unit, out=images)


@functools.cache
def _channel_scales(device: torch.device) -> tuple[Tensor, Tensor]:
    """What a pixel of 0 becomes in each channel, and what a unit of a pixel is worth."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (CHANNEL_MEAN, CHANNEL_STD))
    return (-mean / std).float().to(device), (1 / (255 * std)).float().to(device)


def train_epoch(
    network: Network,
    images: ImageSet,
    optimizer: torch.optim.Optimizer,
    plan: EpochPlan,
    *,
    learner: Learner[LossTerms] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainStats:
    """Trains for one pass over `images`; stops at a loss that is not finite, or one step after it on a GPU.

    Args:
        learner: of this network, for all of its epochs: other processes may be in it, and a GPU's graph of the step.
            None: one for this epoch, and this process alone.
        on_step: called with (images done, images in all) after each step.
    """
    network.train()
    for group in optimizer.param_groups:
        group["lr"] = plan.lr
    learner = learner or Learner(network, loss_terms)
    with _seeded(plan), batches_of(images, plan, learner) as batches:
        stats = _train(learner, batches, optimizer, plan, lambda done: on_step(done, len(images)) if on_step else None)
    # The last step may have overflowed, and no loss was taken after it.
    return stats if _is_finite(network) else replace(stats, finite=False)


def _train(
    learner: Learner[LossTerms],
    batches: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    plan: EpochPlan,
    on_step: Callable[[int], None],
) -> TrainStats:
    steps = Steps(learner, optimizer, plan.explanation, alpha=plan.alpha, beta=plan.beta)
    tally = _Tally()
    for count, shown in batches:
        learner.begin(count)
        tally.expect(steps.take(shown, of=count))
        if not tally.is_finite(but=steps.num_ahead):
            return _stats(tally, plan, finite=False)
        tally.tell(on_step)
    finite = tally.is_finite()
    tally.tell(on_step)
    return _stats(tally, plan, finite=finite)


class _Tally:
    """Sums over the steps of an epoch."""

    def __init__(self) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64)
        self.done = 0
        self._told = 0
        self._expected: deque[Taken] = deque()

    def expect(self, taken: Taken) -> None:
        self._expected.append(taken)

    def is_finite(self, *, but: int = 0) -> bool:
        """Whether all steps had a finite loss, the last `but` aside, which are not waited for."""
        while len(self._expected) > but:
            taken = self._expected.popleft()
            values = taken.values()
            if not torch.isfinite(values[0]):
                return False
            values[0] *= taken.count
            self.sums += values.double()
            self.done += taken.count
        return True

    def tell(self, on_step: Callable[[int], None]) -> None:
        if self.done > self._told:
            on_step(self.done)
            self._told = self.done


@contextlib.contextmanager
def _seeded(plan: EpochPlan) -> Iterator[None]:
    """Torch's global generators, which stochastic depth draws from, seeded for the epoch and put back after it."""
    with torch.random.fork_rng(devices=[plan.device] if plan.device.type == "cuda" else []):
        torch.manual_seed(derive_seed(plan.seed, plan.epoch, "stochastic depth"))
        yield


def _is_finite(network: Network) -> bool:
    return bool(torch.stack([value.isfinite().all() for value in network.state_dict().values()]).all())


# How many images it is of, and this process's share of them.
Batch = tuple[int, Shown]


def batches_of(
    images: ImageSet, plan: EpochPlan, learner: Learner[LossTerms]
) -> AbstractContextManager[Iterator[Batch]]:
    """This process's share of an epoch's batches, on the device."""
    order = torch.randperm(len(images), generator=plan.generator("order"))
    augment, transform = plan.generator("augment"), plan.generator("transform")
    size = plan.recipe.image_size

    def make(batch: Tensor) -> Batch:
        rows = learner.rows_of(len(batch))
        x = perturb(images, batch, plan, generator=augment, rows=rows)
        labels = images.labels[batch[rows]].to(plan.device, non_blocking=True)
        moved = _draw(plan, len(batch), transform).select(rows)
        matrices = matrices_for(plan.explanation, moved, learner.map_side(size), size)
        return len(batch), Shown(x=x, labels=labels, moved=moved, matrices=matrices)

    return prepared(make, _batches(order, plan.recipe.batch_size), plan.device)


def perturb(
    images: ImageSet, batch: Tensor, plan: EpochPlan, *, generator: torch.Generator, rows: slice = slice(None)
) -> Images:
    """x as the network sees it: random resized crop and flip of the stored images (the paper's "Input Image").

    Args:
        rows: of the batch, which are wanted; crops are drawn for all.
    """
    crop = draw_transforms(
        images.heights[batch], images.widths[batch], scale=(plan.recipe.crop_scale_min, 1.0), generator=generator
    )
    stored = prepare(images.pixels(batch[rows], pinned=plan.device.type == "cuda"), plan.device)
    return apply_transforms(crop.select(rows).to(plan.device), stored, plan.recipe.image_size)


def _draw(plan: EpochPlan, count: int, generator: torch.Generator) -> Transforms:
    frame = torch.full((count,), plan.recipe.image_size)
    scale = (plan.explanation.transform_scale_min, 1.0)
    return draw_transforms(frame, frame, scale=scale, generator=generator).to(plan.device)


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    batches = list(order.split(batch_size))  # type: ignore[no-untyped-call]
    # Batch normalisation cannot see a single image: the odd one out sits this epoch out.
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def _stats(tally: _Tally, plan: EpochPlan, *, finite: bool) -> TrainStats:
    loss, cross_entropy, consistency, sparsity = (tally.sums / tally.done).tolist()
    return TrainStats(
        loss=loss,
        cross_entropy=cross_entropy,
        consistency_loss=consistency if plan.explanation.alpha > 0 else None,
        sparsity_loss=sparsity if plan.explanation.beta > 0 else None,
        finite=finite,
    )
