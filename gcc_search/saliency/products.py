"""Products of small matrices with all of float32's bits, whatever torch is told elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, batched, in the tensors' own precision: neither autocast nor TF32 rounds it."""
    with torch.autocast(a.device.type, enabled=False):
        if is_exact(a):
            return a @ b
        return (a.double() @ b.double()).to(a.dtype)


def is_exact(tensor: Tensor) -> bool:
    """Whether a plain product of tensors like this one keeps their precision; settings made elsewhere decide."""
    return not tensor.is_cuda or tensor.dtype == torch.float64 or torch.get_float32_matmul_precision() == "highest"
