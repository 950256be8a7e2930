"""Pointwise functions of tensors as one kernel each on a GPU, where a kernel costs more than what it computes."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.cuda.jiterator import _create_multi_output_jit_fn

R = TypeVar("R")


class Fused(Generic[R]):
    """A function of tensors; on a GPU `code` takes its place, which is to say the same of each element.

    The code is a C++ template for torch's own run-time compiler: it takes the tensors' elements, then the numbers, and
    leaves what comes out in references. It is compiled at a process's first call, in some tenths of a second, and kept
    in a folder of torch's. Where it cannot be, that is told once, and the function serves. Gradients do not pass.

    Args:
        outputs: how many tensors come out.
        numbers: keyword arguments of the function, and what they are unless told.
    """

    def __init__(self, plain: Callable[..., R], code: str, outputs: int, numbers: dict[str, float]) -> None:
        self.plain, self.code, self.outputs, self.numbers = plain, code, outputs, numbers
        arguments = inspect.signature(plain).parameters.values()
        self.num_tensors = sum(argument.kind is not argument.KEYWORD_ONLY for argument in arguments)
        functools.update_wrapper(self, plain)

    def __call__(self, *tensors: Tensor, **numbers: float) -> R:
        if is_fused(tensors[0]) and self._is_compiled:
            return self._kernel(*tensors, **numbers)
        return self.plain(*tensors, **(self.numbers | numbers))

    @functools.cached_property
    def _kernel(self) -> Callable[..., R]:
        return _create_multi_output_jit_fn(self.code, self.outputs, **self.numbers)

    @functools.cached_property
    def _is_compiled(self) -> bool:
        """Tried with single elements: what fails then is the compiler."""
        try:
            self._kernel(*(torch.ones(1, device="cuda") for _ in range(self.num_tensors)))
        except RuntimeError as error:
            name = self.plain.__name__
            warnings.warn(f"{name} is not compiled for this GPU, and takes longer: {error}", stacklevel=3)
            return False
        return True


def fused(code: str, *, outputs: int, **numbers: float) -> Callable[[Callable[..., R]], Fused[R]]:
    """Makes a `Fused` of the function that it decorates."""
    return lambda plain: Fused(plain, code, outputs, numbers)


def is_fused(tensor: Tensor) -> bool:
    """Whether a tensor is on a GPU, and neither another's stand-in nor in the hands of a compiler of its own."""
    return tensor.is_cuda and type(tensor) is Tensor and not torch.compiler.is_compiling()
