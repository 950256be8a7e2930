"""Where a process's time goes, by the calls that one names: each call's own time, without that of others within it."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock


class Spent:
    """Adds up the time of named calls in one thread."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        # Of the calls under way: what others within them have taken.
        self._within: list[float] = []

    def milliseconds(self) -> dict[str, float]:
        return {name: 1e3 * seconds for name, seconds in self._seconds.items()}

    @contextlib.contextmanager
    def timed(self, calls: Sequence[tuple[str, Any, str]]) -> Iterator[None]:
        """While the body runs, adds to `part` what the function `name` of `place` takes, for each of (part, place,
        name)."""
        with contextlib.ExitStack() as patches:
            for part, place, name in calls:
                patches.enter_context(mock.patch.object(place, name, self._timing(part, getattr(place, name))))
            yield

    def _timing(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*arguments: Any, **others: Any) -> Any:
            began = time.perf_counter()
            self._within.append(0.0)
            try:
                return call(*arguments, **others)
            finally:
                taken = time.perf_counter() - began
                self._seconds[part] += taken - self._within.pop()
                if self._within:
                    self._within[-1] += taken

        return timed
