"""Forward passes of a network that is measured. On CUDA those that come again and again are replayed as graphs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from gcc_search.saliency.geometry import sample
from gcc_search.saliency.shapes import Classes, Images, Logits, PerImage, RawMaps
from gcc_search.training.graphed import Graphed
from gcc_search.training.network import Network, full_precision
from gcc_search.training.terms import precision, shown_dtype

# Of one kind and size, before they become a graph: to make it takes about as long.
_PLAIN_PASSES = 5

# A network and tensors to show it.
Pass = Callable[..., tuple[Tensor, ...]]


class Seen(NamedTuple):
    """What a network makes of images x and of their second views t(x).

    Args:
        maps, moved_maps: of x and of t(x), both for the class predicted on x.
        own_maps: of t(x), for the class predicted on t(x).
    """

    predicted: Classes
    confidence: PerImage
    maps: RawMaps
    moved_predicted: Classes
    moved_maps: RawMaps
    own_maps: RawMaps


class Passes:
    """Passes of one network in eval mode, without gradients. Its weights may change in between, in place.

    A GPU takes a pass of a small network in less time than the CPU needs to ask for its kernels one by one.

    Args:
        after: the graph of the network's training step, where there is one by now: passes work in its memory as well.
        num_plain: passes of one kind and size before they become a graph.
    """

    def __init__(
        self,
        network: Network,
        *,
        after: Callable[[], Graphed[Tensor] | None] = lambda: None,
        num_plain: int = _PLAIN_PASSES,
    ) -> None:
        self.network, self._after, self._num_plain = network, after, num_plain
        self._taken: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, Graphed[tuple[Tensor, ...]]] = {}

    def explain(self, x: Images, positions: Tensor) -> Seen:
        """What the network makes of both views; the second one is sampled at these positions."""
        return Seen(*self._take(_explain, x, positions))

    def classify(self, shown: Images) -> Logits:
        (logits,) = self._take(_classify, shown)
        return logits

    def _take(self, work: Pass, *tensors: Tensor) -> tuple[Tensor, ...]:
        kind = (work, *(tensor.shape for tensor in tensors))
        graph = self._graphs.get(kind)
        is_due = self._taken[kind] >= self._num_plain and self.network.is_replayable
        if graph is None and is_due and _can_be_replayed(tensors[0]):
            graph = self._graphs[kind] = self._graph_of(work, tensors)
        if graph is None:
            self._taken[kind] += 1
            return work(self.network, *tensors)
        # The next pass writes over them.
        return tuple(part.clone() for part in graph(*tensors))

    def _graph_of(self, work: Pass, tensors: tuple[Tensor, ...]) -> Graphed[tuple[Tensor, ...]]:
        before = next(iter(self._graphs.values()), None) or self._after()
        # Weights are cast within: what autocast has kept of them is gone when it is replayed, and they have changed.
        with torch.autocast(tensors[0].device.type, enabled=False, cache_enabled=False):
            return Graphed(
                functools.partial(work, self.network),
                tensors,
                written=(),
                owners=self.network,
                draws=False,
                after=before,
            )


def _can_be_replayed(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _explain(network: Network, x: Images, positions: Tensor) -> tuple[Tensor, ...]:
    count = len(x)
    # Each view is written to its place, as the network's convolutions read it.
    shape, dtype = (2 * count, *x.shape[1:]), shown_dtype(x.device)
    views = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
    views[:count], views[count:] = x, sample(x, positions)
    with precision(x.device):
        features = network.features(views)
    features = full_precision(features)
    probabilities = network.logits(features[:count]).softmax(1)
    confidence, predicted = probabilities.max(1)
    maps = network.maps(features, predicted.repeat(2))
    moved_predicted = network.logits(features[count:]).argmax(1)
    own_maps = network.maps(features[count:], moved_predicted)
    return Seen(predicted, confidence, maps[:count], moved_predicted, maps[count:], own_maps)


def _classify(network: Network, shown: Images) -> tuple[Tensor, ...]:
    with precision(shown.device):
        return (network(shown),)
