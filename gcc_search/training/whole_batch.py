"""Modules for one of several processes, each with a share of every batch, that give what one process would give.

Batch statistics are those of the whole batch, and so are the draws of stochastic depth and dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from gcc_search.training.crew import Share


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


def see_whole_batches(network: nn.Module, batch: WholeBatch) -> None:
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
