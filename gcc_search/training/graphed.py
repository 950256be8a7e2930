"""Work of training as one CUDA graph: its hundreds of kernels are launched at once, and the CPU has time to spare."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

# cuDNN and cuBLAS choose and allocate at first use, which a capture does not allow.
_WARM_UPS = 3


class Graphed(Generic[Result]):
    """`work` on tensors of fixed shapes on one GPU, captured once and replayed at every call.

    The result and whatever `work` writes are those of the plain call; random draws go on from the generator's state.

    Args:
        work: on the device alone: no branch on a tensor's value, no copy to or from the CPU, no other shapes later.
        example: inputs of the shapes to come.
        written: every tensor that `work` writes to and that outlives it; as they were, once this is made.
        owners: of all that `work` reads and writes, which must not be freed before. Not `work` itself, which may well
            hold on to who holds this: a graph's memory would wait for the garbage collector.
        draws: whether `work` draws from the device's generator. Who does not may be replayed while another graph is
            captured or replayed.
        after: a graph in whose memory this one works as well. Neither is replayed beside the other, nor before what the
            other has returned was read.
    """

    def __init__(
        self,
        work: Callable[..., Result],
        example: Iterable[Tensor],
        *,
        written: Iterable[Tensor],
        owners: object,
        draws: bool = True,
        after: Graphed[Any] | None = None,
    ) -> None:
        # What torch frees with the other graph serves this one, too: up to 2.14 cuBLAS's workspace of their stream.
        self._owners = (owners, after)
        self._inputs = [tensor.clone() for tensor in example]
        device = self._inputs[0].device
        kept = [(tensor, tensor.detach().clone()) for tensor in written]
        state = torch.cuda.get_rng_state(device)
        stream = _stream(device)
        # What other streams have cached is of no use to this one.
        torch.cuda.empty_cache()
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                work(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, which prepare images, may go on meanwhile.
        of_generator = contextlib.nullcontext() if draws else _random_state_of_its_own(device)
        pool = None if after is None else after._graph.pool()
        capture = torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local")
        try:
            with _nothing_collected(), of_generator, capture:
                self._result = work(*self._inputs)
        except RuntimeError as error:
            # Where memory has run out, the end of the capture may fail as well, and would be all that is told.
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None
            raise
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
        torch.cuda.set_rng_state(state, device)

    def __call__(self, *tensors: Tensor) -> Result:
        """The result, which the next call overwrites."""
        for own, given in zip(self._inputs, tensors, strict=True):
            own.copy_(given, non_blocking=True)
        return self.replay()

    def replay(self) -> Result:
        """The same on the inputs of the last call."""
        self._graph.replay()
        return self._result


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """A graph that is garbage must not be destroyed within: its driver call would break off the capture."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _random_state_of_its_own(device: torch.device) -> Iterator[None]:
    """For a graph that draws nothing.

    Up to torch 2.12 all graphs of a generator's state have one seed and one offset on the device, which every replay
    writes anew, and no graph is replayed while another one is captured.
    """
    generator = torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    state = generator.graphsafe_get_state()
    generator.graphsafe_set_state(state.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(state)


def _stream(device: torch.device) -> torch.cuda.Stream:
    """To capture in. Graphs of one stream share its workspace: who replays them side by side has given each its own."""
    current = torch.cuda.current_stream(device)
    return _side_stream(device) if current == torch.cuda.default_stream(device) else current


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all graphs: cuBLAS keeps a workspace, tens of megabytes, for each stream that it ever worked in."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
