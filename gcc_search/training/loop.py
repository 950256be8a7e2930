"""One epoch of training with L = L_CE + alpha L_C + beta L_S (equation 4), read from top to bottom."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, draw_transforms
from gcc_search.saliency.photometry import Photometry, draw_photometry
from gcc_search.seeding import derive_seed
from gcc_search.settings import Explanation, Recipe
from gcc_search.training.image_set import ImageSet
from gcc_search.training.learner import Learner
from gcc_search.training.network import Network
from gcc_search.training.prefetch import prepared
from gcc_search.training.showing import Drawn, ReplayedShowing, Showing
from gcc_search.training.steps import Shown, Steps, Taken
from gcc_search.training.terms import LossTerms, has_second_view, loss_terms

# So many images' transforms are drawn in the hundred small operations that one batch's would take.
_DRAWN_TOGETHER = 2048


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
    batches = _batches(order, plan.recipe.batch_size)
    draws = _draws(images, batches, plan, learner)
    size = plan.recipe.image_size
    showing = Showing(explanation=plan.explanation, cells=learner.map_side(size), size=size)
    replayed = _replayed(showing, images, plan, learner)

    def make(batch: Tensor) -> Batch:
        drawn = next(draws)
        pixels = images.pixels(drawn.indices, pinned=plan.device.type == "cuda")
        show = replayed if replayed is not None and replayed.count == len(pixels) else showing
        return len(batch), show(pixels, drawn)

    return prepared(make, batches, plan.device)


def _draws(images: ImageSet, batches: list[Tensor], plan: EpochPlan, learner: Learner[LossTerms]) -> Iterator[Drawn]:
    """Of each batch, drawn for many at once: a generator gives the numbers that it gives for one after the other."""
    augment, transform, recolour = (plan.generator(purpose) for purpose in ("augment", "transform", "photometric"))
    step = max(1, _DRAWN_TOGETHER // plan.recipe.batch_size)
    for first in range(0, len(batches), step):
        together = batches[first : first + step]
        indices = torch.cat(together)
        labels = images.labels[indices].to(plan.device, non_blocking=True)
        crop = _draw_crops(images, indices, plan, augment).to(plan.device)
        moved = _draw_moved(len(indices), plan, transform).to(plan.device)
        photometry = _draw_photometry(len(indices), plan, recolour)
        begin = 0
        for batch in together:
            rows = learner.rows_of(len(batch))
            ours = slice(begin + rows.start, begin + rows.stop)
            yield Drawn(
                indices=indices[ours],
                labels=labels[ours],
                crop=crop.select(ours),
                moved=moved.select(ours),
                photometry=None if photometry is None else photometry.select(ours),
            )
            begin += len(batch)


def _replayed(
    showing: Showing, images: ImageSet, plan: EpochPlan, learner: Learner[LossTerms]
) -> ReplayedShowing | None:
    """The trial's graph, made on a GPU where a whole batch comes twice; none where several processes share batches."""
    count, side = plan.recipe.batch_size, images.images.shape[-1]
    if (
        learner.replayed_showing is None
        and plan.device.type == "cuda"
        and learner.is_alone
        and len(images) >= 2 * count
    ):
        learner.replayed_showing = ReplayedShowing(showing, count=count, side=side, device=plan.device)
    replayed: ReplayedShowing | None = learner.replayed_showing
    return replayed


def _draw_crops(images: ImageSet, indices: Tensor, plan: EpochPlan, generator: torch.Generator) -> Transforms:
    scale = (plan.recipe.crop_scale_min, 1.0)
    return draw_transforms(images.heights[indices], images.widths[indices], scale=scale, generator=generator)


def _draw_moved(count: int, plan: EpochPlan, generator: torch.Generator) -> Transforms:
    frame = torch.full((count,), plan.recipe.image_size)
    return draw_transforms(frame, frame, scale=(plan.explanation.transform_scale_min, 1.0), generator=generator)


def _draw_photometry(count: int, plan: EpochPlan, generator: torch.Generator) -> Photometry | None:
    strength = plan.explanation.photometric
    if strength == 0 or not has_second_view(plan.explanation):
        return None
    return draw_photometry(count, strength=strength, generator=generator).to(plan.device)


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
