"""Inputs by the thousand for one target, counted."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck

from gcc_search.errors import GccSearchError
from tests.fuzz.targets import Target, make_targets

# One input; a message or a file that takes longer is a way to keep a machine busy.
LIMIT_SECONDS = 10.0
LONGEST_MESSAGE = 2000


@dataclass(kw_only=True)
class Count:
    """What came of a target's inputs. `others`: by what came out, an input that did it and where."""

    target: str
    accepted: int = 0
    refused: int = 0
    others: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    slowest_seconds: float = 0.0
    slowest: str = ""

    @property
    def inputs(self) -> int:
        return self.accepted + self.refused + self.others.total()


def run_task(task: tuple[int, int, int, str]) -> Count:
    """A round in a process of its own.

    Args:
        task: the target's place, inputs, seed, and the folder in which the target gets one.
    """
    place, inputs, seed, folder = task
    return run_round(make_targets(Path(tempfile.mkdtemp(dir=folder)))[place], inputs=inputs, seed=seed)


def run_round(target: Target, *, inputs: int, seed: int) -> Count:
    """`inputs` of them. Faults are counted, not raised, so that one does not hide the others."""
    count = Count(target=target.name)
    # Hypothesis ends a test early where it has seen every input it can think of: as many are drawn again.
    for again in range(20):
        missing = inputs - count.inputs
        if missing <= 0:
            break
        _one_test(target, count, inputs=missing, seed=seed + 7919 * again)
    return count


def _one_test(target: Target, count: Count, *, inputs: int, seed: int) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(target.inputs)
    def each(content: Any) -> None:
        _try(target, content, count)

    each()


def _try(target: Target, content: Any, count: Count) -> None:
    began = time.process_time()
    try:
        target.read(content)
        count.accepted += 1
    except GccSearchError as error:
        message = str(error)
        if "\n" in message or len(message) > LONGEST_MESSAGE:
            _note(count, "a message that is not one line", content, message[:500])
        else:
            count.refused += 1
    except Exception as error:
        _note(count, _name(error), content, traceback.format_exc())
    seconds = time.process_time() - began
    if seconds > count.slowest_seconds:
        count.slowest_seconds, count.slowest = seconds, repr(content)[:80]
    assert seconds < LIMIT_SECONDS, f"{target.name} took {seconds:.0f} s of {repr(content)[:200]}"


def _name(error: Exception) -> str:
    """`KeyError at findings.py:12`: faults of one cause are one entry."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "gcc_search" in frame.filename]
    place = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {place}"


def _note(count: Count, name: str, content: Any, told: str) -> None:
    count.others[name] += 1
    count.examples.setdefault(name, f"{repr(content)[:3000]}\n{told}")
