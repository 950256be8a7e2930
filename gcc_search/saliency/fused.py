"""Pointwise functions of tensors as one kernel each on a GPU, where a kernel costs more than what it computes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.cuda.jiterator import _create_multi_output_jit_fn

R = TypeVar("R")


def fused(code: str, *, outputs: int, **numbers: float) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorates a function of tensors: on a GPU `code` takes its place, which is to say the same of each element.

    The code is a C++ template for torch's own run-time compiler: it takes the tensors' elements, then the numbers, and
    leaves what comes out in references. It is compiled at a process's first call, in some tenths of a second, and kept
    in a folder of torch's. Gradients do not pass.

    Args:
        outputs: how many tensors come out.
        numbers: keyword arguments of the function, and what they are unless told.
    """

    def decorate(plain: Callable[..., R]) -> Callable[..., R]:
        @functools.cache
        def kernel() -> Callable[..., R]:
            return _create_multi_output_jit_fn(code, outputs, **numbers)

        @functools.wraps(plain)
        def call(*tensors: Tensor, **given: float) -> R:
            return kernel()(*tensors, **given) if is_fused(tensors[0]) else plain(*tensors, **(numbers | given))

        return call

    return decorate


def is_fused(tensor: Tensor) -> bool:
    """Whether a tensor is on a GPU, and neither another's stand-in nor in the hands of a compiler of its own."""
    return tensor.is_cuda and type(tensor) is Tensor and not torch.compiler.is_compiling()
