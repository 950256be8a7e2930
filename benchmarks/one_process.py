"""Many trials of one network in one process, on the same batches: equal order and crops, each its own alpha, beta, p.

What they share is the input; what is left to share is the way in which the device is kept busy.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.packed_processes import Rate, memory
from benchmarks.stacked import GroupedTrials, MappedTrials
from benchmarks.trial_at_hand import Case, TrialAtHand, timed
from gcc_search.search.worker_memory import give_back_memory
from gcc_search.training.image_set import ImageSet
from gcc_search.training.learner import Learner
from gcc_search.training.loop import batches_of
from gcc_search.training.steps import Shown, Steps
from gcc_search.training.terms import LossTerms, loss_terms


def shown_batches(case: Case, images: ImageSet, device: torch.device) -> Iterator[Shown]:
    """For ever, as `train_epoch` has them."""
    # It is asked for the size of its maps alone.
    learner = Learner(case.build(torch.device("cpu"))[0], loss_terms)
    for epoch in itertools.count(1):
        with batches_of(images, case.plan(0, device, epoch=epoch), learner) as batches:
            for _, shown in batches:
                yield shown


class InTurn:
    """One trial's step after the other's, as `train_epoch` takes them; with `streams`, each in a stream of its own."""

    def __init__(self, case: Case, device: torch.device, count: int, *, streams: bool = False) -> None:
        self._trials = [self._make(case, device, number) for number in range(count)]
        self._streams = [_stream(device) for _ in self._trials] if streams else []

    def _make(self, case: Case, device: torch.device, number: int) -> tuple[Learner[LossTerms], Steps]:
        network, optimizer = case.build(device)
        learner, asked = Learner(network, loss_terms), case.plan(number, device).explanation
        return learner, Steps(learner, optimizer, asked, alpha=asked.alpha, beta=asked.beta)

    def step(self, shown: Shown) -> Tensor:
        """Each trial's loss before it."""
        taken = []
        for number, (learner, steps) in enumerate(self._trials):
            with self._queued(number):
                learner.begin(len(shown.x))
                taken.append(steps.take(shown, of=len(shown.x)))
        for stream in self._streams:
            torch.cuda.current_stream().wait_stream(stream)
        return torch.stack([one.values()[0] for one in taken])

    def _queued(self, number: int) -> contextlib.AbstractContextManager[object]:
        if not self._streams:
            return contextlib.nullcontext()
        self._streams[number].wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self._streams[number])


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _threads(case: Case, images: ImageSet, device: torch.device, count: int) -> float:
    """Each trial by `train_epoch` in a thread and on a stream of its own; they share the images."""
    streams = [_stream(device) if device.type == "cuda" else None for _ in range(count)]
    trials = [TrialAtHand(case, device, number, images) for number in range(count)]
    for trial, stream in zip(trials, streams, strict=True):
        # Its graph works in what this stream has to itself.
        with torch.cuda.stream(stream):
            trial.warm_up()
    rates: list[float] = []
    start = threading.Barrier(count)

    def run(trial: TrialAtHand, stream: torch.cuda.Stream | None) -> None:
        start.wait()
        with torch.cuda.stream(stream):
            rates.append(timed(case, trial.train))

    runners = [threading.Thread(target=run, args=pair) for pair in zip(trials, streams, strict=True)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    if len(rates) < count:
        raise RuntimeError("a trial in a thread failed; see above")
    return sum(rates)


def _same_batches(
    case: Case, images: ImageSet, device: torch.device, count: int, step: Callable[[Shown], Tensor]
) -> float:
    batches = shown_batches(case, images, device)
    for _ in range(3):
        step(next(batches))

    def work(on_batch: Callable[[], None]) -> None:
        for shown in batches:
            assert step(shown).cpu().isfinite().all(), "a rate of 1e-4 diverges on no noise"
            on_batch()

    return count * timed(case, work)


WAYS: dict[str, Callable[[Case, ImageSet, torch.device, int], float]] = {
    "in turn": lambda case, images, device, count: _same_batches(
        case, images, device, count, InTurn(case, device, count).step
    ),
    "streams": lambda case, images, device, count: _same_batches(
        case, images, device, count, InTurn(case, device, count, streams=True).step
    ),
    "threads": _threads,
    # Last: after a capture that fails torch makes no more graphs in this process.
    "grouped": lambda case, images, device, count: _same_batches(
        case, images, device, count, GroupedTrials(case, device, count).step
    ),
    "vmap": lambda case, images, device, count: _same_batches(
        case, images, device, count, MappedTrials(case, device, count).step
    ),
}


def measure_ways(case: Case, device_name: str, ways: list[str], threads: int) -> dict[str, list[Rate] | str]:
    """For each way the images a second of all trials of this process, for each count; or why it does not work.

    `peak_bytes` are those of all trials.
    """
    torch.set_num_threads(threads)
    device, images = torch.device(device_name), case.images()
    found: dict[str, list[Rate] | str] = {}
    for way in ways:
        try:
            found[way] = [_measure_way(case, device, images, way, count) for count in case.together]
        except Exception as error:
            # Which of them torch can do is what is asked.
            found[way] = f"{type(error).__name__}: {error}"
    return found


def _measure_way(case: Case, device: torch.device, images: ImageSet, way: str, count: int) -> Rate:
    give_back_memory(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    per_second = WAYS[way](case, images, device, count)
    peak, used = memory(device)
    return Rate(count=count, images_per_second=per_second, peak_bytes=peak, device_bytes=used)
