"""Networks that are none of ours: what a factory of another package makes, looked at before anything relies on it."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gcc_search.errors import SpaceError
from gcc_search.plugins import factory_of
from gcc_search.saliency.shapes import FeatureMaps, Images
from gcc_search.training.network import Network, PooledNetwork, without_dropout

# Of logits, in units of the largest: the same sums in another order.
_TOLERANCE = 1e-3


class OwnNetwork(PooledNetwork):
    """A network that averages its last feature maps: what gives them, and what reads their mean, by their names in it.

    Args:
        model: gives logits of images. Its `state_dict` is what is saved; ImageNet's mean and deviation are what images
            are normalised by.
        features: the submodule or method that maps images to feature maps (batch, channels, side, side).
        head: the submodule that maps their mean (batch, channels) to logits: a linear layer, or one that ends in one.
        last_stage: the submodule whose output `features` are, where `features` is a method.
        is_replayable: see `Network`. A GPU then takes small networks' steps in less time.

    Raises:
        ValueError: a name of nothing, or of what cannot be that part.
    """

    is_foldable = False

    def __init__(
        self, model: nn.Module, *, features: str, head: str, last_stage: str | None = None, is_replayable: bool = False
    ) -> None:
        super().__init__(model)
        self.is_replayable = is_replayable
        self._names = (features, head, last_stage or features)
        for name in self._names:
            _part(model, name)
        if not callable(_part(model, features)):
            raise ValueError(f'features must be a submodule or method, got "{features}"')
        if not isinstance(_part(model, self._names[2]), nn.Module):
            raise ValueError("last_stage must be the submodule whose output the features are, where these are a method")
        linear = [name for name, module in self.head.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(f'head must be a linear layer, or end in one, got "{head}"')
        self.layer_of_classes = ".".join(part for part in (head, linear[-1]) if part)
        self._sides: dict[int, int] = {}

    def _features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = _part(self.model, self._names[0])(images)
        return maps

    def map_side(self, image_size: int) -> int:
        """As its own forward pass has it; the first time that a size is asked for.

        Raises:
            SpaceError: images of that size that it does not take, or parts that are not what they are said to be.
        """
        if image_size not in self._sides:
            self._sides[image_size] = self._look(image_size)
        return self._sides[image_size]

    @property
    def blocks(self) -> list[nn.Module]:
        stage = _part(self.model, self._names[0])
        if not isinstance(stage, nn.Sequential):
            self._refuse_recomputing("whose features are no nn.Sequential")
        blocks: list[list[nn.Module]] = []
        for module in stage:
            if blocks and getattr(module, "inplace", False):
                blocks[-1].append(module)
            else:
                blocks.append([module])
        return [nn.Sequential(*block) for block in blocks]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = _part(self.model, self._names[2])
        return stage

    @property
    def head(self) -> nn.Module:
        head: nn.Module = _part(self.model, self._names[1])
        return head

    @property
    def map_head(self) -> nn.Module:
        return without_dropout(self.head) if isinstance(self.head, nn.Sequential) else self.head

    @torch.no_grad()
    def _look(self, size: int) -> int:
        first = next(self.model.parameters())
        images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(first.device)
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            expected: Tensor = self.model(images)
            features: Tensor = _part(self.model, self._names[0])(images)
            self._check_maps(features)
            found = self.logits(features)
            if self.is_recomputed:
                self._check_blocks(images)
        except SpaceError:
            raise
        except Exception as error:
            raise SpaceError(
                f"image_size: must be one that {type(self.model).__name__} takes, got {size}: {_line(error)}"
            ) from error
        finally:
            for module, was_training in modes:
                module.training = was_training
        self._check_logits(found, expected)
        return features.shape[2]

    def _check_maps(self, features: Tensor) -> None:
        shape = list(features.shape)
        if len(shape) != 4 or shape[0] != 2 or shape[2] != shape[3]:
            raise SpaceError(
                f"networks: {type(self.model).__name__}: {self._names[0]} must give maps (batch, channels, side, side) "
                f"of square images, got {shape} of 2; name another part"
            )

    def _check_blocks(self, images: Tensor) -> None:
        for block in self.blocks:
            before = images.clone()
            made = block(images)
            if not torch.equal(images, before):
                self._refuse_recomputing("of whose parts one changes its input in place")
            images = made

    def _refuse_recomputing(self, why: str) -> NoReturn:
        rule = f"activation_checkpointing: must be false for a network {why}"
        raise SpaceError(f"{rule}, got {type(self.model).__name__}; leave it out")

    def _check_logits(self, found: Tensor, expected: Tensor) -> None:
        is_alike = found.shape == expected.shape and bool(
            torch.isclose(found, expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max())).all()
        )
        if not is_alike:
            features, head, _ = self._names
            raise SpaceError(
                f"networks: {type(self.model).__name__}: its logits must be {head} of the mean of {features}, got "
                "others; name other parts, or write a class of your own (gcc_search.training.network.Network)"
            )


def own_network(name: str, num_classes: int) -> Network:
    """What another package makes of the name, in evaluation and training as good as ours.

    Raises:
        SpaceError: the factory fails, or what it makes cannot be trained or saved.
    """
    factory = factory_of(name)
    try:
        network = factory(num_classes)
    except Exception as error:
        raise SpaceError(f"networks: {name}: must be made by its factory, got {_line(error)}; mend it") from error
    if problem := next(_problems(network, num_classes), None):
        raise SpaceError(f"networks: {name}: its factory must give {problem}; mend it")
    made: Network = network
    return made


def _problems(network: object, num_classes: int) -> Iterator[str]:
    if not isinstance(network, Network):
        yield f"a gcc_search.training.network.Network, such as an OwnNetwork, got {type(network).__name__}"
        return
    state: dict[str, Any] = network.model.state_dict()
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        yield f"a state of tensors alone, got {others[0]}"
    wrong = [name for name, value in network.model.named_parameters() if value.dtype != torch.float32]
    if wrong:
        yield f"parameters in float32, got {wrong[0]} in others"
    places = [value.data_ptr() for value in state.values() if isinstance(value, Tensor) and value.numel()]
    if len(set(places)) < len(places):
        yield "parameters that share no memory, got some that do"
    if network.num_classes != num_classes:
        yield f"{num_classes} logits for as many classes, got {network.num_classes}"
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if any(norm.momentum is None or not norm.track_running_stats for norm in norms):
        yield "batch normalisations with a momentum and running statistics, got one without"


def _part(model: nn.Module, name: str) -> Any:
    try:
        return operator.attrgetter(name)(model)
    except AttributeError:
        raise ValueError(f'"{name}" must be a part of {type(model).__name__}, got no such name') from None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
