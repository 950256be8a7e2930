"""What computes a step's losses: this process alone, or several, each its share of every batch.

Several are to give the rows that one gives, up to the order of sums. So every batch is drawn whole by each of them and
then cut; modules see whole batches (`whole_batch`); losses are summed, and DistributedDataParallel averages the
gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from gcc_search.training.crew import ALONE, OVER, Crew
from gcc_search.training.graphed import Graphed
from gcc_search.training.network import Network
from gcc_search.training.whole_batch import WholeBatch, see_whole_batches

Terms = TypeVar("Terms")
# Any but OVER: the others load what they need, then wait for the first epoch.
_BEGIN = 1
_NEWS_SECONDS = 3.0


class Learner(Generic[Terms]):
    """Computes the loss terms of this process's share of a batch.

    Args:
        terms_of: the losses of a network on images, as `terms.loss_terms`.
        crew: with whom; all of them make theirs at the same time, and get rank 0's weights and momentum. None: alone.
    """

    def __init__(
        self,
        network: Network,
        terms_of: Callable[..., Terms],
        *,
        optimizer: torch.optim.Optimizer | None = None,
        crew: Crew | None = None,
    ) -> None:
        self._batch = WholeBatch(ALONE if crew is None else crew.share)
        self._network = network
        self._num_processes = 1 if crew is None else crew.share.size
        self._step: nn.Module = _Step(network, terms_of)
        if crew is not None:
            assert optimizer is not None, "its momentum is shared"
            see_whole_batches(network, self._batch)
            self._step = DistributedDataParallel(self._step)
            # They are equal everywhere by themselves. (The constructor's own argument warns from torch 2.15 on.)
            self._step.broadcast_buffers = False
            _share_momentum(network, optimizer)
        self.is_alone = crew is None
        self.last_count = 0
        """Images of the last batch."""
        self.replayed: Any = None
        """The step as one CUDA graph (`steps.ReplayedStep`), which serves all epochs."""
        self.replayed_showing: Any = None
        """What comes before it as another one (`showing.ReplayedShowing`), alike."""

    @property
    def graph(self) -> Graphed[Tensor] | None:
        """That of the step, where there is one by now."""
        return None if self.replayed is None else self.replayed.graph

    @property
    def module(self) -> nn.Module:
        """The network and its losses, as one module."""
        return self._step

    @property
    def is_replayable(self) -> bool:
        """Whether a CUDA graph can hold a step: not one whose blocks are computed again in the backward pass."""
        return self._network.is_replayable and not self._network.is_recomputed

    def map_side(self, image_size: int) -> int:
        """Cells of a map on a side, of images of this size."""
        return self._network.map_side(image_size)

    def state(self) -> Iterator[Tensor]:
        """The network's parameters and buffers, those that are not saved among them."""
        yield from self._network.parameters()
        yield from self._network.buffers()

    def rows_of(self, count: int) -> slice:
        """Which of a batch of `count` images are this process's."""
        return self._batch.rows_of(count)

    def begin(self, count: int) -> slice:
        """The same, of the batch that is to be learned from now."""
        self._batch.count = count
        return self._batch.rows

    @property
    def num_shares(self) -> int:
        """Into how many parts the batch is cut; 1 where each process has all of it."""
        return self._batch.num_shares

    def terms(self, *batch: Any) -> Terms:
        terms: Terms = self._step(*batch)
        return terms

    def unaveraged(self) -> contextlib.AbstractContextManager[None]:
        """Of `terms` that are made within, gradients are those of this process's share, until they are averaged."""
        return self._step.no_sync() if isinstance(self._step, DistributedDataParallel) else contextlib.nullcontext()

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Averages gradients over all processes, in place, as is done with those that are not `unaveraged`."""
        if self._num_processes == 1:
            return
        together = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(together)
        together /= self._num_processes
        parts = together.split([gradient.numel() for gradient in gradients])  # type: ignore[no-untyped-call]
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def sum(self, values: Tensor) -> Tensor:
        """`values` summed over the batch's parts, in place; equal everywhere afterwards."""
        if self._batch.is_divided:
            distributed.all_reduce(values)
        return values


@contextlib.contextmanager
def leading(
    crew: Crew | None, network: Network, optimizer: torch.optim.Optimizer, terms_of: Callable[..., Terms]
) -> Iterator[Learner[Terms]]:
    """Rank 0's learner, or one that is alone; the others are let go at the end.

    Raises:
        Exception: why another process failed, in place of the connection that broke by it.
    """
    if crew is None:
        learner = Learner(network, terms_of)
        try:
            yield learner
        finally:
            # Their memory is not to wait for whoever still holds on to the learner. (The step's waits for `Passes`.)
            learner.replayed = learner.replayed_showing = None
        return
    crew.tell(_BEGIN)
    try:
        yield Learner(network, terms_of, optimizer=optimizer, crew=crew)
    except RuntimeError:
        # A connection breaks before the system tells of the end of the process behind it.
        crew.raise_if_lost(within=_NEWS_SECONDS)
        raise
    finally:
        crew.tell(OVER)


class _Step(nn.Module):
    """DistributedDataParallel follows one forward pass; networks here are called by their parts."""

    def __init__(self, network: Network, terms_of: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self._terms_of = network, terms_of

    def forward(self, *batch: Any) -> Any:
        return self._terms_of(self.network, *batch)


def _share_momentum(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Rank 0's, everywhere. SGD's first step is the same from none and from zeros."""
    for parameter in network.parameters():
        state = optimizer.state[parameter]
        momentum = state.get("momentum_buffer")
        sent = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        if momentum is not None:
            sent.copy_(momentum)
        distributed.broadcast(sent, 0)
        state["momentum_buffer"] = torch.empty_like(parameter).copy_(sent)
