"""Many trials of one network as one: their weights stacked, one pass through the network for all of them.

grouped: each convolution has as many groups as there are trials, each normalisation as many times the channels: batch
statistics are every trial's own, running ones are kept as they are. vmap: `torch.func.functional_call` under
`torch.func.vmap` over stacked parameters and buffers; in float32 running statistics are updated in place there
too, in the stack; in bfloat16 all of a network is cast, they among it, and what it makes of them is lost.
The losses are taken trial by trial in both: the product's are not made for vmap. On CUDA the step is one graph, as
the product's is.
"""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn

from benchmarks.trial_at_hand import Case, make_sgd
from gcc_search.saliency.geometry import apply_transforms
from gcc_search.settings import Explanation
from gcc_search.training.graphed import Graphed
from gcc_search.training.network import Network, PooledNetwork, full_precision
from gcc_search.training.steps import Shown
from gcc_search.training.terms import precision, terms_of_maps


class _Stacked:
    """What both have in common: heads of their own, and a step of all."""

    def __init__(self, case: Case, device: torch.device, count: int) -> None:
        self.networks = [case.build(device)[0] for _ in range(count)]
        self.explanations = [case.plan(number, device).explanation for number in range(count)]
        self._graph: Graphed[Tensor] | None = None

    @functools.cached_property
    def optimizer(self) -> torch.optim.SGD:
        heads = [parameter for network in self.networks for parameter in _head_of(network).parameters()]
        return make_sgd([*(value for name, value in self.bodies().items() if not name.startswith("model.fc.")), *heads])

    def bodies(self) -> dict[str, nn.Parameter]:
        """The stacked parameters, by the name that each trial has for its own."""
        raise NotImplementedError

    def features(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def step(self, shown: Shown) -> Tensor:
        """Each trial's loss before it."""
        batch = shown.tensors()
        if shown.x.is_cuda and self._graph is None:
            # The tries before the capture are steps, too; that does not matter here.
            self._graph = Graphed(self._learn, batch, written=[], owners=(self.networks, self.optimizer))
        return self._graph(*batch) if self._graph is not None else self._learn(*batch)

    def _learn(self, *batch: Tensor) -> Tensor:
        shown = Shown.of_tensors(*batch)
        x = shown.x
        with precision(x.device):
            features = self.features(torch.cat([x, apply_transforms(shown.moved, x, x.shape[-1])]))
        trials = zip(features, self.networks, self.explanations, strict=True)
        losses = torch.stack([_loss(maps, network, shown, asked) for maps, network, asked in trials])
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses.detach()


def _head_of(network: Network) -> nn.Module:
    assert isinstance(network, PooledNetwork), "a ResNet, as others have no batch statistics of their own to be kept"
    return network.head


def _loss(features: Tensor, network: Network, shown: Shown, explanation: Explanation) -> Tensor:
    """Equation 4 from one trial's feature maps of both views, as `loss_terms` has it."""
    features, count = full_precision(features), len(shown.x)
    logits = network.logits(features)
    predicted = logits.detach()[:count].argmax(1)
    maps = network.maps(features, predicted.repeat(2))
    consistency, sparsity = terms_of_maps(maps, shown.moved, shown.x.shape[-1], explanation, shown.matrices)
    assert consistency is not None, "alpha is above 0"
    assert sparsity is not None, "beta is above 0"
    cross_entropy = nn.functional.cross_entropy(logits[:count], shown.labels)
    return cross_entropy + explanation.alpha * consistency.mean() + explanation.beta * sparsity.mean()


class GroupedTrials(_Stacked):
    """A network of `count` times the channels, in groups. Its input is one trial's: all see the same."""

    def __init__(self, case: Case, device: torch.device, count: int) -> None:
        super().__init__(case, device, count)
        self.whole = copy.deepcopy(self.networks[0])
        _widen(self.whole, count)

    def bodies(self) -> dict[str, nn.Parameter]:
        return dict(self.whole.named_parameters())

    def features(self, images: Tensor) -> list[Tensor]:
        return list(self.whole.features(images).chunk(len(self.networks), 1))


def _widen(network: nn.Module, count: int) -> None:
    """Each trial begins with the same weights, as trials do that start from one network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # What all see alike comes in once.
            if module.in_channels != 3:
                module.in_channels *= count
                module.groups *= count
            module.out_channels *= count
            repeated = module.weight.detach().repeat(count, 1, 1, 1)
            module.weight = nn.Parameter(repeated.contiguous(memory_format=torch.channels_last))
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features *= count
            module.weight = nn.Parameter(module.weight.detach().repeat(count))
            module.bias = nn.Parameter(module.bias.detach().repeat(count))
            assert module.running_mean is not None, "kept by all networks here"
            assert module.running_var is not None, "likewise"
            module.running_mean, module.running_var = (
                module.running_mean.repeat(count),
                module.running_var.repeat(count),
            )


class MappedTrials(_Stacked):
    """`vmap` over stacked parameters and buffers of `features`."""

    def __init__(self, case: Case, device: torch.device, count: int) -> None:
        super().__init__(case, device, count)
        self.parameters, self.buffers = torch.func.stack_module_state(list(self.networks))
        self._body = _Features(copy.deepcopy(self.networks[0]).to("meta"))

    def bodies(self) -> dict[str, nn.Parameter]:
        return self.parameters

    def features(self, images: Tensor) -> list[Tensor]:
        def one(images: Tensor, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            state = {f"network.{name}": value for name, value in (parameters | buffers).items()}
            maps: Tensor = torch.func.functional_call(self._body, state, (images,))
            return maps

        # Under vmap, autocast does not see convolutions, and normalisations take one type only.
        if torch.is_autocast_enabled(images.device.type):
            low = [{k: v.bfloat16() for k, v in part.items()} for part in (self.parameters, self.buffers)]
            with torch.autocast(images.device.type, enabled=False):
                mapped: Tensor = torch.func.vmap(functools.partial(one, images.bfloat16()))(*low)
        else:
            mapped = torch.func.vmap(functools.partial(one, images))(self.parameters, self.buffers)
        return list(mapped.unbind())


class _Features(nn.Module):
    """`functional_call` calls a module; ours are called by their parts."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.network.features(images)  # type: ignore[operator]
        return maps
