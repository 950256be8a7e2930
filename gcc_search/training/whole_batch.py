"""Modules for one of several processes, each with a share of every batch, that give what one process would give.

Batch statistics are those of the whole batch, and so are the draws of stochastic depth and dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from gcc_search.errors import SpaceError
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
        super().__init__(like.p, like.inplace)
        self._batch = batch

    def forward(self, values: Tensor) -> Tensor:
        if not (self.training and self._batch.is_divided and self.p > 0):
            return super().forward(values)
        num_views = len(values) // self._batch.num_here
        # By the same kernel, in the order of memory: a GPU's own of dropout draws otherwise than `bernoulli_` does, by
        # which it is done in place.
        ones = values.new_ones(num_views * self._batch.count, *values.shape[1:]).to(memory_format=_order_of(values))
        kept = functional.dropout(ones, self.p, inplace=self.inplace)
        mine = kept.view(num_views, -1, *values.shape[1:])[:, self._batch.rows].flatten(0, 1)
        return values * mine


def _order_of(values: Tensor) -> torch.memory_format:
    is_last = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last and not values.is_contiguous() else torch.contiguous_format


def see_whole_batches(network: nn.Module, batch: WholeBatch) -> None:
    """Puts modules that look at a whole batch in the place of those that would take a share of it for one.

    Raises:
        SpaceError: there is one that cannot.
    """
    check_whole(network)
    whole: dict[nn.Module, nn.Module] = {}
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if child is not None:
                # One module may stand under several names.
                if child not in whole:
                    whole[child] = _whole(child, batch)
                setattr(parent, name, whole[child])


def _whole(module: nn.Module, batch: WholeBatch) -> nn.Module:
    from torchvision.ops import StochasticDepth

    if type(module) is nn.BatchNorm2d:
        return WholeBatchNorm(module, batch)
    if type(module) is nn.Dropout:
        return WholeDropout(module, batch)
    return WholeStochasticDepth(module, batch) if isinstance(module, StochasticDepth) else module


def check_whole(network: nn.Module) -> None:
    """Nothing, where each module of a network gives in several processes what it gives in one.

    (Modules that draw by themselves, and are neither torch's nor torchvision's, are not known as such.)

    Raises:
        SpaceError: there is another.
    """
    for module in network.modules():
        if _is_of_a_batch(module):
            kind = f"{type(module).__module__}.{type(module).__name__}"
            raise SpaceError(
                f"resources.gpus_per_trial: must be at most 1 for a network with this {kind}, which would take a "
                "share of a batch for all of it; use BatchNorm2d, Dropout and StochasticDepth by row instead"
            )


def _is_of_a_batch(module: nn.Module) -> bool:
    from torchvision.ops import StochasticDepth

    if isinstance(module, StochasticDepth):
        return bool(module.mode != "row")
    if isinstance(module, _DropoutNd):
        return type(module) not in (nn.Dropout, WholeDropout) and module.p > 0
    if isinstance(module, _NormBase):
        has_state = isinstance(module, _BatchNorm) or module.track_running_stats
        return has_state and not (type(module) in (nn.BatchNorm2d, WholeBatchNorm) and module.affine)
    return False


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
