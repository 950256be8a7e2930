"""What computes a step's losses: this process alone, or several, each its share of every batch.

Several are to give the rows that one gives, up to the order of sums. So every batch is drawn whole by each of them and
then cut; batch statistics are those of the whole batch, and so are the draws of stochastic depth and dropout; losses
are summed, and DistributedDataParallel averages the gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from gcc_search.training.crew import ALONE, OVER, Crew, Share
from gcc_search.training.graphed import Graphed
from gcc_search.training.network import Network

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
            _see_whole_batches(network, self._batch)
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
    def is_recomputed(self) -> bool:
        """Whether the network's blocks are computed again in the backward pass, which no CUDA graph can hold."""
        return self._network.is_recomputed

    def map_side(self, image_size: int) -> int:
        """Cells of a map on a side, of images of this size."""
        return self._network.map_side(image_size)

    def state(self) -> Iterator[Tensor]:
        """The network's parameters and buffers."""
        yield from self._network.state_dict().values()

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


class WholeBatch:
    """The batch at hand, which the modules of a network see a share of."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.count = 0

    @property
    def is_divided(self) -> bool:
        return self._share.divides(self.count)

    @property
    def num_shares(self) -> int:
        """Into how many parts the batch is cut; 1 where each process has all of it."""
        return self._share.size if self.is_divided else 1

    @property
    def rows(self) -> slice:
        return self.rows_of(self.count)

    def rows_of(self, count: int) -> slice:
        return self._share.rows(count)

    @property
    def num_here(self) -> int:
        rows = self.rows
        return int(rows.stop - rows.start)


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes.

    torch's own kernels for it are for GPUs alone; on the CPU this is the same in plain operations, whose gradients flow
    across processes as well. (`nn.SyncBatchNorm` itself is refused by DistributedDataParallel on the CPU.)
    """

    def __init__(self, like: _BatchNorm, batch: WholeBatch) -> None:
        super().__init__(like.num_features, like.eps, like.momentum)
        self._batch = batch
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked

    def num_values(self, images: Tensor) -> int:
        """How many values of each channel a statistic is over, where `images` are this process's."""
        here = images.numel() // images.shape[1]
        return here // self._batch.num_here * self._batch.count if self._batch.is_divided else here

    def forward(self, images: Tensor) -> Tensor:
        if not (self.training and self._batch.is_divided):
            return super().forward(images)
        assert self.running_mean is not None, "a network that is evaluated keeps running statistics"
        assert self.running_var is not None, "a network that is evaluated keeps running statistics"
        assert self.num_batches_tracked is not None, "as above"
        assert self.momentum is not None, "running statistics are averaged exponentially"
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
        if images.is_cuda:
            normalised: Tensor = SyncBatchNorm.apply(
                images,
                self.weight,
                self.bias,
                self.running_mean,
                self.running_var,
                self.eps,
                self.momentum,
                distributed.group.WORLD,
                self._batch.num_shares,
            )
            return normalised
        return self._normalise(images, self.running_mean, self.running_var, self.momentum)

    def _normalise(self, images: Tensor, running_mean: Tensor, running_variance: Tensor, momentum: float) -> Tensor:
        count = self.num_values(images)
        mean = _sum_over_processes(images.sum((0, 2, 3))) / count
        centred = images - mean[:, None, None]
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_variance.lerp_(variance * (count / (count - 1)), momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]


class WholeStochasticDepth(nn.Module):
    """torchvision's, by row: draws for the whole batch what one process would draw, and takes its own rows of it."""

    def __init__(self, like: Any, batch: WholeBatch) -> None:
        """`like`: torchvision's StochasticDepth."""
        super().__init__()
        assert like.mode == "row", "the networks here leave out images, not batches"
        self._like, self._batch = like, batch

    def forward(self, images: Tensor) -> Tensor:
        if not (self.training and self._batch.is_divided and self._like.p > 0):
            shown: Tensor = self._like(images)
            return shown
        # Rows are those of one view, or of both, one after the other.
        num_views = len(images) // self._batch.num_here
        kept = images.new_empty(num_views, self._batch.count).bernoulli_(1 - self._like.p).div_(1 - self._like.p)
        mine = kept[:, self._batch.rows].reshape(-1, *[1] * (images.dim() - 1))
        return images * mine


class WholeDropout(nn.Dropout):
    """Dropout that draws for the whole batch what one process would draw, and takes its own rows of it."""

    def __init__(self, like: nn.Dropout, batch: WholeBatch) -> None:
        super().__init__(like.p)
        self._batch = batch

    def forward(self, values: Tensor) -> Tensor:
        if not (self.training and self._batch.is_divided and self.p > 0):
            return super().forward(values)
        num_views = len(values) // self._batch.num_here
        # By the same kernel: a GPU's own of dropout draws otherwise than `bernoulli_` does.
        kept = functional.dropout(values.new_ones(num_views, self._batch.count, *values.shape[1:]), self.p)
        return values * kept[:, self._batch.rows].flatten(0, 1)


class _Step(nn.Module):
    """DistributedDataParallel follows one forward pass; networks here are called by their parts."""

    def __init__(self, network: Network, terms_of: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self._terms_of = network, terms_of

    def forward(self, *batch: Any) -> Any:
        return self._terms_of(self.network, *batch)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        # Every process's loss depends on every process's values.
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def _sum_over_processes(values: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(values)
    return total


def _see_whole_batches(network: nn.Module, batch: WholeBatch) -> None:
    """Puts modules that look at a whole batch in the place of those that would take a share of it for one."""
    from torchvision.ops import StochasticDepth

    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, WholeBatchNorm(child, batch))
            elif isinstance(child, StochasticDepth):
                setattr(parent, name, WholeStochasticDepth(child, batch))
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, WholeDropout(child, batch))


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
