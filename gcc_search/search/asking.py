"""What a task on another machine answers: what was asked for, or the reason why not, in a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import ray

from gcc_search.errors import GccSearchError

Answer = TypeVar("Answer")


def or_reason(question: Callable[..., Answer], *given: Any) -> Answer | str:
    """On that machine: what `question` returns, or what it complains of."""
    try:
        return question(*given)
    except GccSearchError as error:
        return str(error)


def answer_of(reference: Any, told: str) -> Any:
    """Here: the task's answer; where it had none, `told` with what Ray says of it in the place of {}."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return told.format(str(error).strip().splitlines()[-1])
