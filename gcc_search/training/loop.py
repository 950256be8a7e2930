"""One epoch of training with L = L_CE + alpha L_C + beta L_S (equation 4), read from top to bottom."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.geometry import Transforms, apply_transforms, draw_transforms, move_heatmaps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import consistency_loss, normalise, sparsity_loss, upsample
from gcc_search.saliency.shapes import Classes, Images, PerImage
from gcc_search.seeding import derive_seed
from gcc_search.settings import Explanation, Recipe
from gcc_search.training.datasets import ImageSet
from gcc_search.training.learner import Learner
from gcc_search.training.networks import Network, full_precision
from gcc_search.training.prefetch import prepared
from gcc_search.training.views import view_features

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
    def lr(self) -> float:
        """Learning rate of this epoch: multiplied by `lr_gamma` every `lr_step_epochs`."""
        return self.recipe.lr * self.recipe.lr_gamma ** ((self.epoch - 1) // self.recipe.lr_step_epochs)


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The terms of equation 4, one number per image; a term that was not computed is None."""

    cross_entropy: PerImage
    consistency: PerImage | None
    sparsity: PerImage | None

    def total(self, alpha: float, beta: float, *, of: float | None = None) -> Tensor:
        """Mean over the batch of L_CE + alpha L_C + beta L_S.

        Args:
            of: what the sum is divided by, where that is not the number of images here.
        """

        def mean(term: PerImage) -> Tensor:
            return term.mean() if of is None else term.sum() / of

        loss = mean(self.cross_entropy)
        if self.consistency is not None:
            loss = loss + alpha * mean(self.consistency)
        if self.sparsity is not None:
            loss = loss + beta * mean(self.sparsity)
        return loss


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
    images = pixels.to(device, non_blocking=True).float().div_(255)
    mean, std = _channels(device)
    return images.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


@functools.lru_cache(maxsize=8)
def _channels(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, there already: to send them along with each batch would hold a GPU up."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (CHANNEL_MEAN, CHANNEL_STD))
    return mean, std


def precision(device: torch.device) -> torch.autocast:
    """bfloat16 autocast on CUDA, nothing on the CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def train_epoch(
    network: Network,
    images: ImageSet,
    optimizer: torch.optim.Optimizer,
    plan: EpochPlan,
    *,
    learner: Learner[LossTerms] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainStats:
    """Trains for one pass over `images`; stops within one step of a loss that is not finite.

    Args:
        learner: of this network, where other processes train it as well; None: this one alone.
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
    alpha, beta = plan.explanation.alpha * plan.warmup, plan.explanation.beta * plan.warmup
    sums = torch.zeros(4, dtype=torch.float64)
    done = 0
    for count, x, labels, moved in batches:
        learner.begin(count)
        terms = learner.terms(x, labels, moved, plan.explanation)
        # Gradients are averaged over the shares: each share's loss is that of a batch of its size.
        shares = learner.num_shares
        loss = terms.total(alpha, beta, of=None if shares == 1 else count / shares)
        # The only wait for the device: the next step is asked for while it is at this one's backward pass.
        summed = learner.sum(_sums(loss / shares, terms)).cpu()
        if not torch.isfinite(summed[0]):
            return _stats(sums, done, terms, finite=False)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        summed[0] *= count
        sums += summed.double()
        done += count
        on_step(done)
    return _stats(sums, done, terms, finite=True)


@contextlib.contextmanager
def _seeded(plan: EpochPlan) -> Iterator[None]:
    """Torch's global generators, which stochastic depth draws from, seeded for the epoch and put back after it."""
    with torch.random.fork_rng(devices=[plan.device] if plan.device.type == "cuda" else []):
        torch.manual_seed(derive_seed(plan.seed, plan.epoch, "stochastic depth"))
        yield


def _is_finite(network: Network) -> bool:
    return bool(torch.stack([value.isfinite().all() for value in network.state_dict().values()]).all())


# How many images it is of; and of the share of them here x as the network sees it, its labels and its transforms.
Batch = tuple[int, Images, Classes, Transforms]


def batches_of(
    images: ImageSet, plan: EpochPlan, learner: Learner[LossTerms]
) -> AbstractContextManager[Iterator[Batch]]:
    """This process's share of an epoch's batches, on the device."""
    order = torch.randperm(len(images), generator=plan.generator("order"))
    augment, transform = plan.generator("augment"), plan.generator("transform")

    def make(batch: Tensor) -> Batch:
        rows = learner.rows_of(len(batch))
        x = perturb(images, batch, plan, generator=augment, rows=rows)
        moved = _draw(plan, len(batch), transform).select(rows)
        return len(batch), x, images.labels[batch[rows]].to(plan.device, non_blocking=True), moved

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


def loss_terms(
    network: Network, x: Images, labels: Classes, transforms: Transforms, explanation: Explanation
) -> LossTerms:
    """Forward pass and losses of one batch. Both views go through the network together: batch statistics are shared.

    A second view that is detached is a target and goes through it by itself (see `view_features`), unless cross-entropy
    is taken on it as well. The second view is left out where nothing asks for it (alpha = 0 and cross-entropy on the
    first view alone).
    """
    count, size = len(x), x.shape[-1]
    two_views = explanation.alpha > 0 or explanation.ce_on_views == "both"
    second_is_target = explanation.detach == "second-view" and explanation.ce_on_views != "both"
    with precision(x.device):
        if two_views:
            moved = apply_transforms(transforms, x, size)
            features = view_features(network, x, moved, second_is_target=second_is_target)
        else:
            features = network.features(x)
    features = full_precision(features)
    logits = network.head(features.mean((2, 3)))
    cross_entropy = functional.cross_entropy(logits[:count], labels, reduction="none")
    if explanation.ce_on_views == "both":
        second = functional.cross_entropy(logits[count:], labels, reduction="none")
        cross_entropy = (cross_entropy + second) / 2
    if explanation.alpha == 0 and explanation.beta == 0:
        return LossTerms(cross_entropy=cross_entropy, consistency=None, sparsity=None)

    classes = _explained_classes(logits, count, explanation)
    maps = gradcam(features, network.head, classes, detach_head=explanation.detach == "head")
    first = upsample(maps[:count], size)
    sparsity = (
        sparsity_loss(normalise(first), p=explanation.p, form=explanation.sparsity) if explanation.beta > 0 else None
    )
    if explanation.alpha == 0:
        return LossTerms(cross_entropy=cross_entropy, consistency=None, sparsity=sparsity)
    second_maps = maps[count:].detach() if explanation.detach == "second-view" else maps[count:]
    consistency = consistency_loss(
        normalise(move_heatmaps(transforms, first, size)),
        normalise(upsample(second_maps, size)),
        distance=explanation.distance,
    )
    return LossTerms(cross_entropy=cross_entropy, consistency=consistency, sparsity=sparsity)


def _explained_classes(logits: Tensor, count: int, explanation: Explanation) -> Classes:
    predicted = logits.detach().argmax(1)
    if explanation.cam_class == "own" or len(predicted) == count:
        return predicted
    return predicted[:count].repeat(2)


def _draw(plan: EpochPlan, count: int, generator: torch.Generator) -> Transforms:
    frame = torch.full((count,), plan.recipe.image_size)
    scale = (plan.explanation.transform_scale_min, 1.0)
    return draw_transforms(frame, frame, scale=scale, generator=generator).to(plan.device)


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    batches = list(order.split(batch_size))  # type: ignore[no-untyped-call]
    # Batch normalisation cannot see a single image: the odd one out sits this epoch out.
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches


def _sums(loss: Tensor, terms: LossTerms) -> Tensor:
    """The loss, and each of its terms summed over the images here."""
    per_image = (terms.cross_entropy, terms.consistency, terms.sparsity)
    sums = [loss.new_zeros(()) if term is None else term.detach().sum() for term in per_image]
    return torch.stack([loss.detach(), *sums])


def _stats(sums: Tensor, done: int, terms: LossTerms, *, finite: bool) -> TrainStats:
    loss, cross_entropy, consistency, sparsity = (sums / done).tolist()
    return TrainStats(
        loss=loss,
        cross_entropy=cross_entropy,
        consistency_loss=None if terms.consistency is None else consistency,
        sparsity_loss=None if terms.sparsity is None else sparsity,
        finite=finite,
    )
