"""Networks that are none of ours: what a factory of another package makes."""

from __future__ import annotations

import contextlib
import copy
import operator
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gcc_search.errors import SpaceError
from gcc_search.plugins import factory_of, line_of
from gcc_search.saliency.shapes import Classes, FeatureMaps, Images, RawMaps
from gcc_search.training.network import Network, PooledNetwork


class OwnNetwork(PooledNetwork):
    """A network that averages its last feature maps: what gives them, and what reads their mean, by their names in it.

    Args:
        model: gives logits of images. Its `state_dict` is what is saved; ImageNet's mean and deviation are what images
            are normalised by.
        features: the submodule or method that maps images to feature maps (batch, channels, side, side).
        head: the submodule that maps their mean (batch, channels) to logits: a linear layer, or one that ends in one.
            Its modules of dropout are not in maps.
        last_stage: the submodule whose output `features` are, where `features` is a method.
        is_replayable: see `Network`. A GPU then takes small networks' steps in less time.

    Raises:
        ValueError: a name of nothing, or of what cannot be that part.
    """

    def __init__(
        self, model: nn.Module, *, features: str, head: str, last_stage: str | None = None, is_replayable: bool = False
    ) -> None:
        super().__init__(model)
        self.is_replayable = is_replayable
        self.part_names = (features, head, last_stage or features)
        """Of the features, the head and the last stage."""
        for name in self.part_names:
            _part(model, name)
        if not callable(_part(model, features)):
            raise ValueError(f'features must be a submodule or method, got "{features}"')
        if not isinstance(_part(model, self.part_names[2]), nn.Module):
            raise ValueError("last_stage must be the submodule whose output the features are, where these are a method")
        linear = [name for name, module in self.head.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(f'head must be a linear layer, or end in one, got "{head}"')
        if any(isinstance(module, _BatchNorm) for module in self.head.modules()):
            raise ValueError("head must hold no batch normalisation: one image's map would depend on others' classes")
        self.layer_of_classes = ".".join(part for part in (head, linear[-1]) if part)
        self._sides: dict[int, int] = {}

    def _features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = _part(self.model, self.part_names[0])(images)
        return maps

    def maps(self, features: FeatureMaps, classes: Classes, *, detach_head: bool = False) -> RawMaps:
        with _without_dropout(self.head):
            return super().maps(features, classes, detach_head=detach_head)

    def map_side(self, image_size: int) -> int:
        """As a pass of its own has it, the first time that a size is asked for."""
        if image_size not in self._sides:
            device = next(self.model.parameters()).device
            with torch.no_grad(), evaluated(self):
                features: Tensor = _part(self.model, self.part_names[0])(
                    torch.zeros(2, 3, image_size, image_size).to(device)
                )
            self._sides[image_size] = features.shape[2]
        return self._sides[image_size]

    @property
    def blocks(self) -> list[nn.Module]:
        stage = _part(self.model, self.part_names[0])
        if type(stage) is not nn.Sequential:
            self.refuse_recomputing("whose features are no nn.Sequential")
        blocks: list[list[nn.Module]] = []
        for module in stage:
            if blocks and getattr(module, "inplace", False):
                blocks[-1].append(module)
            else:
                blocks.append([module])
        return [nn.Sequential(*block) for block in blocks]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = _part(self.model, self.part_names[2])
        return stage

    @property
    def head(self) -> nn.Module:
        head: nn.Module = _part(self.model, self.part_names[1])
        return head

    def refuse_recomputing(self, why: str) -> NoReturn:
        """Raises SpaceError: blocks of such a network cannot be computed again."""
        rule = f"activation_checkpointing: must be false for a network {why}"
        raise SpaceError(f"{rule}, got {type(self.model).__name__}; leave it out")


def own_network(name: str, num_classes: int) -> Network:
    """What another package makes of the name: a copy, as a factory may give the same one again.

    Raises:
        SpaceError: the factory fails, or what it makes cannot be trained or saved.
    """
    factory = factory_of(name)
    try:
        made = factory(num_classes)
    except (Exception, SystemExit) as error:
        raise SpaceError(f"networks: {name}: must be made by its factory, got {line_of(error)}; mend it") from error
    try:
        problem = next(_problems(made, num_classes), None)
        network: Network = copy.deepcopy(made)
    except Exception as error:
        problem = f"a network that can be looked at and copied, got {line_of(error)}"
    if problem:
        raise SpaceError(f"networks: {name}: its factory must give {problem}; mend it")
    return network


def _problems(network: object, num_classes: int) -> Iterator[str]:
    if not isinstance(network, Network):
        yield f"a gcc_search.training.network.Network, such as an OwnNetwork, got {type(network).__name__}"
        return
    state: dict[str, Any] = network.model.state_dict()
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        yield f"a state of tensors alone, got {others[0]}"
    for name, value in network.model.named_parameters():
        if value.dtype != torch.float32 or value.dim() > 4:
            yield f"parameters in float32 with at most four dimensions, got {name}"
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            yield f"a state of finite numbers, got others in {name}; a buffer with persistent=False is no part of it"
    places = [value.data_ptr() for value in state.values() if value.numel()]
    if len(set(places)) < len(places):
        yield "parameters that share no memory, got some that do"
    if f"{network.layer_of_classes}.weight" not in state:
        yield f"logits by a plain linear layer, got {network.layer_of_classes} without a weight of its own"
    if network.num_classes != num_classes:
        yield f"{num_classes} logits by the last linear layer of its head, got {network.num_classes}"
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if any(norm.momentum is None or not norm.track_running_stats for norm in norms):
        yield "batch normalisations with a momentum and running statistics, got one without"


@contextlib.contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Within, all of it is in eval mode; each module is in its own again afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


@contextlib.contextmanager
def _without_dropout(head: nn.Module) -> Iterator[None]:
    drawing = [module for module in head.modules() if isinstance(module, _DropoutNd) and module.training]
    for module in drawing:
        module.training = False
    try:
        yield
    finally:
        for module in drawing:
            module.training = True


def _part(model: nn.Module, name: str) -> Any:
    try:
        return operator.attrgetter(name)(model)
    except AttributeError:
        raise ValueError(f'"{name}" must be a part of {type(model).__name__}, got no such name') from None
