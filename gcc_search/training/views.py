"""Both views through the network: together, or the second one as a target that nothing is learned from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gcc_search.saliency.shapes import Images
from gcc_search.training.learner import WholeBatchNorm
from gcc_search.training.networks import Network


def view_features(network: Network, first: Images, second: Images, *, second_is_target: bool) -> Tensor:
    """Feature maps of the first view, then of the second, (2B, K, h, w).

    Together, the views share their batch statistics. A target goes through the network that the first view saw, batch
    statistics and all, and leaves no graph: half of the bytes, and two thirds of the time of a step.
    """
    if not second_is_target:
        maps: Tensor = network.features(torch.cat([first, second]))
        return maps
    with _statistics_of_a_batch(network) as norms:
        of_first = network.features(first)
        for norm in norms:
            norm.hold()
        with torch.no_grad():
            of_second = network.features(second)
    return torch.cat([of_first, of_second])


@contextlib.contextmanager
def _statistics_of_a_batch(network: nn.Module) -> Iterator[list[_BatchStatistics]]:
    modules = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    norms = [_BatchStatistics(module) for module in modules]
    try:
        yield norms
    finally:
        for norm in norms:
            norm.release()


class _BatchStatistics:
    """Those of one batch normalisation, which tells them of a batch only where its running ones forget all others."""

    def __init__(self, module: _BatchNorm) -> None:
        assert module.momentum is not None, "running statistics are averaged exponentially"
        assert module.running_mean is not None, "a network that is evaluated keeps running statistics"
        assert module.running_var is not None, "a network that is evaluated keeps running statistics"
        self._module, self._momentum = module, module.momentum
        self._mean, self._variance = module.running_mean, module.running_var
        # The graph keeps those that the first view saw: they are not written to again.
        module.running_mean, module.running_var = self._mean.clone(), self._variance.clone()
        self._hook = module.register_forward_pre_hook(self._count)
        self._num_values = 0
        module.momentum = 1.0

    def _count(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        batch: Tensor = inputs[0]
        if isinstance(module, WholeBatchNorm):
            self._num_values = module.num_values(batch)
        else:
            self._num_values = batch.numel() // batch.shape[1]

    def hold(self) -> None:
        """From now on the module normalises by the statistics of the batch that it has just seen."""
        self._hook.remove()
        mean, variance = self._module.running_mean, self._module.running_var
        assert mean is not None, "see above"
        assert variance is not None, "see above"
        self._mean.lerp_(mean, self._momentum)
        self._variance.lerp_(variance, self._momentum)
        # A running variance is the unbiased one; a batch is normalised by the other.
        self._module.running_var = variance * ((self._num_values - 1) / self._num_values)
        self._module.eval()

    def release(self) -> None:
        """The module as it was, its running statistics moved on by the one batch (by none, where it was not held)."""
        self._hook.remove()
        self._module.running_mean, self._module.running_var = self._mean, self._variance
        self._module.momentum = self._momentum
        self._module.train()
