"""Activation checkpointing (Chen et al., 2016): of each block its input alone is kept, and the rest computed again.

What a block computes the second time is what it computed the first time, to the bit where its operations are
deterministic: random draws are repeated, and running statistics do not move twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(blocks: Iterable[nn.Module], images: Tensor) -> Tensor:
    """`images` through one block after the other, each computed again in the backward pass."""
    for block in blocks:
        images = _recomputed(block, images)
    return images


def _recomputed(block: nn.Module, images: Tensor) -> Tensor:
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    # None of our blocks changes its input in place: what is kept of it is what the block saw.
    outputs: Tensor = checkpoint(
        block, images, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), _StatisticsOfNoUse(norms))
    )
    return outputs


class _StatisticsOfNoUse:
    """Within, running statistics are copies that are thrown away: the first pass has moved them on by this batch.

    Entered once for each pass back: there may be two.
    """

    def __init__(self, norms: Iterable[_BatchNorm]) -> None:
        self._norms = norms
        self._kept: list[tuple[_BatchNorm, str, Tensor]] = []

    def __enter__(self) -> None:
        self._kept = [(norm, name, value) for norm in self._norms for name, value in _running(norm)]
        for norm, name, value in self._kept:
            setattr(norm, name, value.clone())

    def __exit__(self, *error: object) -> None:
        for norm, name, value in self._kept:
            setattr(norm, name, value)


def _running(norm: _BatchNorm) -> Iterator[tuple[str, Tensor]]:
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        value = getattr(norm, name)
        if isinstance(value, torch.Tensor):
            yield name, value
