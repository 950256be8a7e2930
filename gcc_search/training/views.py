"""Both views through the network: together, or the second one as a target that nothing is learned from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from gcc_search.errors import SpaceError
from gcc_search.saliency.shapes import Images
from gcc_search.training.network import Network
from gcc_search.training.whole_batch import WholeBatchNorm


def view_features(network: Network, first: Images, second: Images, *, second_is_target: bool) -> Tensor:
    """Features of the first view, then of the second, of 2B images.

    Together, the views share their batch statistics. A target goes through the network that the first view saw, batch
    statistics and all, and leaves no graph: half of the bytes, and 0.67 to 0.74 of the time of a step (CPU).
    """
    if not second_is_target:
        maps: Tensor = network.features(torch.cat([first, second]))
        return maps
    with _seen_by(network) as seen:
        of_first = network.features(first)
        with torch.no_grad():
            seen.hold()
            of_second = network.features(second)
    return torch.cat([of_first, of_second])


@contextlib.contextmanager
def _seen_by(network: Network) -> Iterator[_Seen]:
    """What `network` sees of a batch within; its modules are themselves again afterwards."""
    seen = _Seen(network)
    try:
        yield seen
    finally:
        seen.release()


class _Seen:
    """The statistics of a batch, by which a network normalises others as well once they are held."""

    def __init__(self, network: Network) -> None:
        modules = list(network.modules())
        norms = [module for module in modules if isinstance(module, _BatchNorm) and module.training]
        # The graph keeps the statistics that the first view saw: those are not written to again. They are copied, moved
        # on and scaled all at once: on a GPU hundreds of small kernels take longer than what they compute.
        fresh = _copied([statistic for norm in norms for statistic in _running(norm)])
        self._norms = [_BatchStatistics(*own, self) for own in zip(norms, fresh[::2], fresh[1::2], strict=True)]
        is_folding = bool(norms) and network.is_foldable
        convolutions = [module for module in modules if isinstance(module, nn.Conv2d)] if is_folding else []
        self._hooks = [convolution.register_forward_hook(self._note) for convolution in convolutions]
        self._latest: tuple[nn.Conv2d, Tensor] | None = None

    def _note(self, convolution: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(convolution, nn.Conv2d), "hooked to these alone"
        self._latest = (convolution, output)

    def source_of(self, batch: Tensor) -> nn.Conv2d | None:
        """The convolution that has just made `batch`, which nothing else reads (`Network.is_foldable`)."""
        return self._latest[0] if self._latest is not None and self._latest[1] is batch else None

    def hold(self) -> None:
        self._unhook()
        seen = [norm for norm in self._norms if norm.has_seen]
        for momentum in {norm.momentum for norm in seen}:
            moved = [norm for norm in seen if norm.momentum == momentum]
            torch._foreach_lerp_(
                [statistic for norm in moved for statistic in norm.kept],
                [statistic for norm in moved for statistic in norm.fresh],
                momentum,
            )
            variances = torch._foreach_mul([norm.fresh[1] for norm in moved], [norm.biased for norm in moved])
            for norm, variance in zip(moved, variances, strict=True):
                norm.hold(variance)

    def release(self) -> None:
        self._unhook()
        for norm in self._norms:
            norm.release()

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._latest = None


def _running(module: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert module.running_mean is not None, "a network that is evaluated keeps running statistics"
    assert module.running_var is not None, "a network that is evaluated keeps running statistics"
    return module.running_mean, module.running_var


def _copied(tensors: list[Tensor]) -> list[Tensor]:
    # torch has no copy of many at once.
    return list(torch._foreach_mul(tensors, 1.0)) if tensors else []


class _BatchStatistics:
    """Those of one batch normalisation, which tells them of a batch only where its running ones forget all others.

    Args:
        mean, variance: what it writes them to.
    """

    def __init__(self, module: _BatchNorm, mean: Tensor, variance: Tensor, seen: _Seen) -> None:
        assert module.momentum is not None, "running statistics are averaged exponentially"
        self._module, self._seen = module, seen
        self.momentum, self.kept, self.fresh = module.momentum, _running(module), (mean, variance)
        module.running_mean, module.running_var = mean, variance
        self._hook = module.register_forward_pre_hook(self._look)
        self._num_values = 0
        self._source: nn.Conv2d | None = None
        module.momentum = 1.0

    @property
    def has_seen(self) -> bool:
        """Whether any of the batch came by: a network may hold modules that it leaves out."""
        return self._num_values > 0

    def _look(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self.has_seen:
            raise SpaceError(
                "explanation.detach: second-view must go with a network that goes through each normalisation once, got "
                f"one that goes through a {type(module).__name__} again; leave it out"
            )
        batch: Tensor = inputs[0]
        # On a GPU folding takes as many small kernels as it saves large ones.
        self._source = None if batch.is_cuda else self._seen.source_of(batch)
        if isinstance(module, WholeBatchNorm):
            self._num_values = module.num_values(batch)
        else:
            self._num_values = batch.numel() // batch.shape[1]

    @property
    def biased(self) -> float:
        """A running variance is the unbiased one; a batch is normalised by the other, so many times as large."""
        return (self._num_values - 1) / self._num_values

    def hold(self, variance: Tensor) -> None:
        """From now on the module normalises by the statistics of the batch that it has just seen."""
        self._hook.remove()
        self._module.running_var = variance
        self._module.eval()
        if self._source is not None:
            self._fold_into(self._source)

    def _fold_into(self, convolution: nn.Conv2d) -> None:
        """The convolution normalises by the way: a pass over its output less, a third of the time."""
        norm = self._module
        assert norm.running_mean is not None, "see above"
        assert norm.running_var is not None, "see above"
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
        # Over the class's own, until `release`.
        vars(convolution)["forward"] = lambda images: convolution._conv_forward(images, weight, bias)
        vars(norm)["forward"] = lambda images: images

    def release(self) -> None:
        """The module as it was, its running statistics moved on by the one batch (by none, where it was not held)."""
        self._hook.remove()
        for module in (self._module, self._source):
            if module is not None:
                vars(module).pop("forward", None)
        self._module.running_mean, self._module.running_var = self.kept
        self._module.momentum = self.momentum
        self._module.train()
