"""A look at a network of another package before anything is trained: whether its parts are what they are said to be."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gcc_search.errors import SpaceError
from gcc_search.plugins import line_of
from gcc_search.saliency.shapes import Classes, Images
from gcc_search.training.network import Network
from gcc_search.training.own_network import OwnNetwork, evaluated
from gcc_search.training.whole_batch import check_whole

# Of logits and maps, in units of the largest: the same sums in another order.
_TOLERANCE = 1e-3


def check_own(network: Network, name: str, size: int, *, num_processes: int = 1) -> None:
    """Nothing, where images of `size` give what training and evaluation rely on. Neither it nor any draw is changed.

    Args:
        num_processes: that are to train it together.

    Raises:
        SpaceError: what does not hold; one line.
    """
    where = f"networks: {name}"
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.random.fork_rng(devices=[]):
            for problem in _problems(_redrawn(network, images), images):
                raise SpaceError(f"{where}: {problem}")
            if num_processes > 1:
                check_whole(network)
                _check_gradients(network, images)
    except SpaceError:
        raise
    except Exception as error:
        told = f"{where}: must give logits, features and maps of images of {size} pixels (image_size)"
        raise SpaceError(f"{told}, got {line_of(error)}; mend it, or use another size") from error


def _redrawn(network: Network, images: Images) -> Network:
    """A copy in which no start at zero hides anything: of layers that add nothing yet, of a head that is constant."""
    probe, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    layer = probe.model.get_submodule(probe.layer_of_classes)
    with torch.no_grad():
        for parameter in probe.parameters():
            if parameter.numel() and (parameter == parameter.flatten()[0]).all():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
        with evaluated(probe):
            is_finite = bool(probe.model(images).isfinite().all())
    return probe if is_finite else copy.deepcopy(network)


def _problems(probe: Network, images: Images) -> Iterator[str]:
    with evaluated(probe), torch.no_grad():
        expected: Tensor = probe.model(images)
        with _watched(probe) as (passes, kept):
            features = probe.features(images)
        if isinstance(probe, OwnNetwork):
            yield from _problems_of_features(probe, features)
        logits = probe.logits(features)
        if isinstance(probe, OwnNetwork):
            yield from _problems_of_parts(probe, features, (logits, expected), kept)
            if probe.is_recomputed:
                _check_blocks(probe, images, features)
        elif not _is_alike(logits, expected):
            yield "the logits of its features must be those of its forward pass, got others"
        shape, side = list(probe.maps(features, logits.argmax(1)).shape), probe.map_side(images.shape[2])
        if shape != [2, side, side]:
            yield f"its maps must have the side that map_side says, {side}, got {shape} of 2 images"
    if any(count > 1 for count in passes.values()):
        yield "it must go through each batch normalisation once, got one that it goes through again"


def _problems_of_features(probe: OwnNetwork, features: Tensor) -> Iterator[str]:
    stage, shape = probe.part_names[0], list(features.shape)
    if len(shape) != 4 or shape[0] != 2 or shape[2] != shape[3]:
        rule = f"{stage} must give maps (batch, channels, side, side) of square images"
        yield f"{rule}, got {shape} of 2; name another part"


def _problems_of_parts(
    probe: OwnNetwork, features: Tensor, logits: tuple[Tensor, Tensor], kept: list[Tensor]
) -> Iterator[str]:
    """`logits`: of the features, and of the forward pass. `kept`: what the last stage gave."""
    stage, head, last = probe.part_names
    if not _is_alike(*logits):
        rule = f"its logits must be {head} of the mean of {stage}"
        yield f"{rule}, got others; name other parts, or write a class of your own (training.network.Network)"
    if not kept or not _is_alike(kept[-1], features):
        yield f"last_stage must give what {stage} gives, got something else from {last}; name another"
    classes = logits[0].argmax(1)
    if not _is_alike(probe.maps(features, classes), _by_autograd(probe, features, classes)):
        yield f"its maps must be by the gradients of {head}, got others; leave out what hooks into it"


def _check_blocks(probe: OwnNetwork, images: Images, features: Tensor) -> None:
    shown = images
    for block in probe.blocks:
        before = shown.clone()
        made = block(shown)
        if not torch.equal(shown, before):
            probe.refuse_recomputing("of whose parts one changes its input in place")
        shown = made
    if not _is_alike(shown, features):
        probe.refuse_recomputing("whose features are not one part after the other")
    if _moves_state(probe, images):
        probe.refuse_recomputing("of whose parts one has a state that each pass moves")


def _moves_state(probe: OwnNetwork, images: Images) -> bool:
    """Whether a pass in training writes to more than batch normalisations, whose state is put back."""
    trained = copy.deepcopy(probe).train()
    others = [module for module in trained.modules() if not isinstance(module, _BatchNorm)]
    buffers = [buffer for module in others for buffer in module.buffers(recurse=False)]
    before = [buffer.clone() for buffer in buffers]
    trained.features(images)
    return not all(map(torch.equal, before, buffers))


def _check_gradients(network: Network, images: Images) -> None:
    """That no parameter is left out, which would be waited for in every step."""
    probe = copy.deepcopy(network).train()
    probe.logits(probe.features(images)).square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in probe.model.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise SpaceError(
                f"resources.gpus_per_trial: must be at most 1 for a network that leaves parameters out, got {name}, "
                "which has no gradient; take it out of the network, or freeze it"
            )


def _by_autograd(probe: OwnNetwork, features: Tensor, classes: Classes) -> Tensor:
    """Maps as others have them: (1 / HW) sum_k v_k A_k, with v of a backward pass."""
    with torch.enable_grad():
        given = features.detach().clone().requires_grad_()
        scores = probe.head(given.mean((2, 3))).gather(1, classes[:, None])
        (gradient,) = torch.autograd.grad(scores.sum(), given)
    return (gradient.mean((2, 3), keepdim=True) * features).sum(1)


@contextlib.contextmanager
def _watched(probe: Network) -> Iterator[tuple[Counter[nn.Module], list[Tensor]]]:
    """How often each batch normalisation is gone through within, and what the last stage gives."""
    passes, kept = Counter[nn.Module](), list[Tensor]()
    norms = [module for module in probe.modules() if isinstance(module, _BatchNorm)]
    hooks = [norm.register_forward_hook(lambda module, inputs, output: passes.update([module])) for norm in norms]
    if isinstance(probe, OwnNetwork):
        # What comes after it may change it in place.
        keep = probe.last_stage.register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
        hooks.append(keep)
    try:
        yield passes, kept
    finally:
        for hook in hooks:
            hook.remove()


def _is_alike(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    most = _TOLERANCE * float(expected.abs().max())
    return bool(torch.isclose(found, expected, rtol=0, atol=most).all())
