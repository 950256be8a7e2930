"""What an exception in a trial means for its next attempt."""

from __future__ import annotations

import errno

import torch

from gcc_search.atomic import as_told
from gcc_search.errors import DataError, DiskError, GccSearchError, StorageError, WeightsError
from gcc_search.results.schema import FailureKind

# RuntimeErrors of torch that are no torch.OutOfMemoryError: of the CPU's allocator, of cuBLAS and of cuDNN.
# On a GPU that others have filled, the latter two cannot even be initialised, or no convolution finds room to work in.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "Cannot allocate memory",
    "STATUS_NOT_INITIALIZED",
    "unable to find an engine to execute this computation",
)
# After one of these nothing more can be computed in its process.
_DEVICE_FAULTS = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "NCCL error")


def failure_kind(error: Exception) -> FailureKind:
    """`memory`: there was too little; `crash`: of the machine, another attempt may do better; `error`: none would."""
    # The search has looked at its images and weights: another machine has them as they must be.
    if isinstance(error, DiskError | StorageError | DataError | WeightsError):
        return "crash"
    if isinstance(error, GccSearchError):
        return "error"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _says(error, _OUT_OF_MEMORY):
        return "memory"
    if isinstance(error, OSError):
        return "memory" if error.errno == errno.ENOMEM else "crash"
    return "crash" if _says(error, _DEVICE_FAULTS) else "error"


def told(error: Exception) -> str:
    """One line: what kind of error it was, and its first words."""
    words = as_told(str(error)).splitlines() or [""]
    named = f"{type(error).__name__}: {words[0]}".removesuffix(": ")
    return f"out of memory ({named})" if failure_kind(error) == "memory" else named


def _says(error: Exception, words: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
