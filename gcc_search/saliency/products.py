"""Products of small matrices with all of float32's bits, whatever torch is told elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor


def multiply(a: Tensor, b: Tensor, *, out: Tensor | None = None) -> Tensor:
    """a @ b, batched, in the tensors' own precision: neither autocast nor TF32 rounds it.

    Args:
        out: where it goes, a part of a larger tensor for example.
    """
    if not torch.is_autocast_enabled(a.device.type):
        # The context, where it ends, drops what autocast has cast for other threads as well.
        return _product(a, b, out)
    with torch.autocast(a.device.type, enabled=False):
        return _product(a, b, out)


def between(rows: Tensor, maps: Tensor, columns: Tensor) -> Tensor:
    """rows @ maps @ columns', as `multiply` has it: a linear map of each dimension of the maps."""
    return multiply(multiply(rows, maps), columns.mT)


def is_exact(tensor: Tensor) -> bool:
    """Whether a plain product of tensors like this one keeps their precision; settings made elsewhere decide.

    On a CPU as well, where it has bfloat16 products. (`torch.get_float32_matmul_precision` raises for some of them.)
    """
    products = torch.backends.cuda.matmul if tensor.is_cuda else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    return tensor.dtype == torch.float64 or products.fp32_precision in ("none", "ieee")


def _product(a: Tensor, b: Tensor, out: Tensor | None) -> Tensor:
    if is_exact(a):
        return torch.matmul(a, b, out=out)
    exact = (a.double() @ b.double()).to(a.dtype)
    return exact if out is None else out.copy_(exact)
