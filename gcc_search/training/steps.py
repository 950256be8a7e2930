"""Steps of training: forward pass, losses, backward pass, optimiser. On CUDA whole steps are replayed as one graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms
from gcc_search.saliency.photometry import Photometry
from gcc_search.saliency.resampling import Resampling
from gcc_search.saliency.shapes import Classes, Images
from gcc_search.settings import Explanation
from gcc_search.training.graphed import Graphed
from gcc_search.training.learner import Learner
from gcc_search.training.projection import is_projected, leave_projected
from gcc_search.training.terms import LossTerms


@dataclass(frozen=True, kw_only=True, eq=False)
class Taken:
    """What became of a step over `count` images."""

    count: int
    sums: Tensor
    copied: torch.cuda.Event | None = None

    def values(self) -> Tensor:
        """The mean loss, and each term summed over the images; float32, on the CPU. Waits for the device."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.sums


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What a step is taken on.

    Args:
        x: images as the network sees them.
        moved: the transforms of the second views.
        photometry: their new colours and blurs, or none, in all steps alike.
        matrices: those of `terms.matrices_for`, or none, likewise.
    """

    x: Images
    labels: Classes
    moved: Transforms
    photometry: Photometry | None
    matrices: Resampling | None

    def tensors(self) -> list[Tensor]:
        """All of it, in the order in which `of_tensors` takes them."""
        photometry = [] if self.photometry is None else [self.photometry.values]
        matrices = [] if self.matrices is None else self.matrices.tensors()
        return [self.x, self.labels, self.moved.boxes, self.moved.flips, *photometry, *matrices]

    @classmethod
    def of_tensors(
        cls, x: Tensor, labels: Tensor, boxes: Tensor, flips: Tensor, *others: Tensor, is_photometric: bool = False
    ) -> Shown:
        """What had these `tensors`, a photometry's among them where it `is_photometric`."""
        values, matrices = (others[0], others[1:]) if is_photometric else (None, others)
        return cls(
            x=x,
            labels=labels,
            moved=Transforms(boxes=boxes, flips=flips),
            photometry=None if values is None else Photometry(values=values),
            matrices=Resampling.of_tensors(*matrices) if matrices else None,
        )

    def given(self, explanation: Explanation) -> tuple[object, ...]:
        """What `terms.loss_terms` is given beside the network."""
        return self.x, self.labels, self.moved, explanation, self.matrices, self.photometry


class Steps:
    """Takes an epoch's steps. A step whose loss is not finite leaves the weights as they are, unless it was a replay.

    Args:
        alpha, beta: weights of the terms in this epoch.
    """

    def __init__(
        self,
        learner: Learner[LossTerms],
        optimizer: torch.optim.Optimizer,
        explanation: Explanation,
        *,
        alpha: float,
        beta: float,
    ) -> None:
        self._learner, self._optimizer, self._explanation = learner, optimizer, explanation
        self._alpha, self._beta = alpha, beta
        self.num_ahead = 0
        """How many steps the device may be behind: their values are not to be asked for yet."""

    def take(self, shown: Shown, *, of: int) -> Taken:
        """One step on this process's share of a batch `of` so many images."""
        whole = self._replayable(shown)
        if whole is None:
            return self._plainly(shown, of)
        self.num_ahead = 1
        return whole.take(shown, alpha=self._alpha, beta=self._beta)

    def _plainly(self, shown: Shown, of: int) -> Taken:
        learner, projects = self._learner, is_projected(self._explanation)
        with learner.unaveraged() if projects else contextlib.nullcontext():
            terms = learner.terms(*shown.given(self._explanation))
        # Gradients are averaged over the shares: each share's loss is that of a batch of its size.
        shares = learner.num_shares
        of_share = None if shares == 1 else of / shares
        loss = terms.total(self._alpha, self._beta, of=of_share)
        summed = learner.sum(_sums(loss / shares, terms)).cpu()
        if torch.isfinite(summed[0]):
            self._optimizer.zero_grad(set_to_none=True)
            if projects:
                leave_projected(learner, *terms.parts(self._alpha, self._beta, of=of_share))
            else:
                loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        return Taken(count=of, sums=summed)

    def _replayable(self, shown: Shown) -> ReplayedStep | None:
        """The step as a graph, made where a batch of this size comes for the second time."""
        learner, count = self._learner, len(shown.x)
        is_fused = all(group.get("fused") for group in self._optimizer.param_groups)
        if shown.x.device.type != "cuda" or not learner.is_alone or not is_fused or not learner.is_replayable:
            return None
        step = learner.replayed
        if step is None and learner.last_count == count:
            step = learner.replayed = ReplayedStep(learner, self._optimizer, self._explanation, shown)
        learner.last_count = count
        return step if step is not None and step.count == count else None


class ReplayedStep:
    """A step on batches of one size as one CUDA graph: the losses' many small kernels cost no time on the CPU.

    Args:
        optimizer: fused SGD, which alone takes its learning rate from the device.
        example: a batch of the size to come.
    """

    def __init__(
        self,
        learner: Learner[LossTerms],
        optimizer: torch.optim.Optimizer,
        explanation: Explanation,
        example: Shown,
    ) -> None:
        self.count = len(example.x)
        is_photometric, projects = example.photometry is not None, is_projected(explanation)
        self._optimizer = optimizer
        # What changes from epoch to epoch: alpha, beta, the learning rate.
        self._weights = weights = torch.zeros(3, device=example.x.device)
        self._set: tuple[float, ...] = ()

        def step(*tensors: Tensor) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            shown = Shown.of_tensors(*tensors, is_photometric=is_photometric)
            terms = learner.terms(*shown.given(explanation))
            loss = terms.total(weights[0], weights[1])
            sums = _sums(loss, terms)
            if projects:
                leave_projected(learner, *terms.parts(weights[0], weights[1]))
            else:
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return sums

        rates = [group["lr"] for group in optimizer.param_groups]
        _begin_momentum(optimizer)
        try:
            for group in optimizer.param_groups:
                group["lr"] = weights[2]
            written = [*learner.state(), *_momentum(optimizer)]
            owners = (learner.module, optimizer, weights)
            self.graph = Graphed(step, example.tensors(), written=written, owners=owners)
        finally:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate

    def take(self, shown: Shown, *, alpha: float, beta: float) -> Taken:
        weights = (alpha, beta, self._optimizer.param_groups[0]["lr"])
        if weights != self._set:
            self._weights.copy_(torch.tensor(weights))
            self._set = weights
        sums = self.graph(*shown.tensors())
        on_cpu = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True).copy_(sums, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(shown.x.device))
        return Taken(count=self.count, sums=on_cpu, copied=copied)


def _begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Zeros, where there is none yet: a first step with them is what it is without."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            if optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _momentum(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            yield optimizer.state[parameter]["momentum_buffer"]


def _sums(loss: Tensor, terms: LossTerms) -> Tensor:
    """The loss, and each of its terms summed over the images here."""
    per_image = (terms.cross_entropy, terms.consistency, terms.sparsity)
    sums = [loss.new_zeros(()) if term is None else term.detach().sum() for term in per_image]
    return torch.stack([loss.detach(), *sums])
