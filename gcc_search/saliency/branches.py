"""Work beside other work on a GPU, which kernels as small as those of maps leave mostly idle."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from gcc_search.saliency.fused import is_fused

R = TypeVar("R")


def beside(work: Callable[[], R], tensor: Tensor, *, lane: int = 0, worthwhile: bool = True) -> Callable[[], R]:
    """Begins `work`, and returns how to come by its result; what is done in between may run at the same time.

    Also within the capture of a CUDA graph. Without a GPU, which `tensor` tells, the work is done at once. Of threads
    each is to have a stream of its own, and there are to be few: torch has some thirty to give.

    Args:
        work: reads only what is kept until the result was asked for, and what it returns is all that it leaves.
        lane: works of one lane wait for each other.
        worthwhile: if not, the work is done at once.
    """
    if not (worthwhile and is_fused(tensor)):
        result = work()
        return lambda: result
    current = torch.cuda.current_stream(tensor.device)
    side = _side_stream(current, lane)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        result = work()
        done = side.record_event()

    def join() -> R:
        # What was allocated beside is allocated anew only beside, and only after a wait for all that read it here.
        torch.cuda.current_stream(tensor.device).wait_event(done)
        return result

    return join


@functools.cache
def _side_stream(stream: torch.cuda.Stream, lane: int) -> torch.cuda.Stream:
    """For all that this stream does: cuBLAS keeps a workspace for each, which `give_back_memory` takes from it."""
    return torch.cuda.Stream(stream.device)  # type: ignore[no-untyped-call]
