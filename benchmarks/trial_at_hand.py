"""A trial to be timed: photographs made up, a network at random, and how many images it trains a second."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from gcc_search.settings import Explanation, Recipe
from gcc_search.training.image_set import ImageSet
from gcc_search.training.learner import Learner
from gcc_search.training.loop import EpochPlan, train_epoch
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.terms import loss_terms

NUM_CLASSES = 101
# Photographs are stored 8/7 as wide as they are shown.
STORED_PER_SHOWN = 8 / 7
# Before the timed seconds and after them all trials train: none has the machine to itself at either end.
MARGIN_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained, and for how many timed seconds.

    Args:
        counts: of trials at the same time, in processes of their own. together: likewise, in one process.
        batches: in an epoch.
        patience_seconds: for all processes to start, and for a slow step of theirs.
    """

    network: str
    image_size: int
    batch_size: int
    counts: tuple[int, ...]
    together: tuple[int, ...] = ()
    window_seconds: float
    batches: int = 16
    patience_seconds: float = 900.0

    @property
    def name(self) -> str:
        return f"{self.network} at {self.image_size} px, batch {self.batch_size}"

    def images(self) -> ImageSet:
        """Photographs of noise: neither a crop's cost nor a step's depends on what they show."""
        count, side = self.batches * self.batch_size, round(self.image_size * STORED_PER_SHOWN)
        generator = torch.Generator().manual_seed(0)
        return ImageSet(
            images=torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=generator),
            rows=torch.arange(count),
            labels=torch.randint(NUM_CLASSES, (count,), generator=generator),
            heights=torch.full((count,), 300),
            widths=torch.full((count,), 400),
            names=tuple(map(str, range(count))),
            boxes=torch.full((count, 4), torch.nan),
        )

    def plan(self, number: int, device: torch.device, *, epoch: int = 1) -> EpochPlan:
        """Of trial `number`: each has its own weights of the losses, and a rate at which noise does not diverge."""
        recipe = Recipe(lr=1e-4, batch_size=self.batch_size, image_size=self.image_size)
        explanation = Explanation(alpha=0.5 + 0.25 * number, beta=0.1 + 0.05 * number, p=0.5 + 0.125 * number)
        return EpochPlan(recipe=recipe, explanation=explanation, epoch=epoch, seed=0, device=device)

    def build(self, device: torch.device) -> tuple[Network, torch.optim.SGD]:
        network = build_network(self.network, num_classes=NUM_CLASSES, weights="none", seed=0).to(device).train()
        return network, make_sgd(list(network.parameters()))


def make_sgd(parameters: list[torch.nn.Parameter]) -> torch.optim.SGD:
    """As `trial.make_optimizer`."""
    return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=parameters[0].is_cuda)


class _EnoughError(Exception):
    """Raised within an epoch, to leave it."""


class Stopwatch:
    """Images a second of what calls `step` after each batch: between the first and the last batch that end in a window.

    Its process's clock is every process's of the machine.
    """

    def __init__(self, window_seconds: float) -> None:
        self._begin = time.monotonic() + MARGIN_SECONDS
        self._end = self._begin + window_seconds
        self._marks: list[float] = []

    def step(self) -> None:
        """Raises `_EnoughError` when it is over."""
        now = time.monotonic()
        # A slow step may be longer than the window: two marks are needed all the same.
        if self._begin <= now <= self._end or (now > self._end and len(self._marks) < 2):
            self._marks.append(now)
        if now > self._end + MARGIN_SECONDS and len(self._marks) >= 2:
            raise _EnoughError

    def per_second(self, batch_size: int) -> float:
        return batch_size * (len(self._marks) - 1) / (self._marks[-1] - self._marks[0])


def timed(case: Case, work: Callable[[Callable[[], None]], None]) -> float:
    """Images a second of one trial in `work`, which calls what it is given after each batch, for ever."""
    watch = Stopwatch(case.window_seconds)
    try:
        work(watch.step)
    except _EnoughError:
        return watch.per_second(case.batch_size)
    raise AssertionError("it works until it is told that it is enough")


class TrialAtHand:
    """One trial by the product's own `train_epoch`."""

    def __init__(self, case: Case, device: torch.device, number: int, images: ImageSet | None = None) -> None:
        self._case, self._device, self._number = case, device, number
        self._images = images or case.images()
        self._network, self._optimizer = case.build(device)
        # One for all epochs, as a trial has it: on CUDA it keeps the step's graph.
        self._learner = Learner(self._network, loss_terms)
        self._epochs: Iterator[int] = itertools.count(1)

    def train(self, on_batch: Callable[[], None]) -> None:
        """Epoch after epoch, until `on_batch` raises."""
        for epoch in self._epochs:
            plan = self._case.plan(self._number, self._device, epoch=epoch)
            stats = train_epoch(
                self._network,
                self._images,
                self._optimizer,
                plan,
                learner=self._learner,
                on_step=lambda done, total: on_batch(),
            )
            assert stats.finite, "a rate of 1e-4 diverges on no noise"

    def warm_up(self) -> None:
        left = iter(range(4))

        def count() -> None:
            if next(left, None) is None:
                raise _EnoughError

        try:
            self.train(count)
        except _EnoughError:
            return
