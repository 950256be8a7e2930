"""Trials that collapsed and were not trained to their last epoch, and how far they had come.

What they scored then stands against a baseline that was trained to the end. Where the space file's `collapse` has them
go on to their last epoch, they are as far as their baselines, and are not among these.
"""

from __future__ import annotations

from collections.abc import Sequence

from gcc_search.results.schema import TrialRecord

Reach = tuple[int, int | None]
"""Epochs that a trial had, and how many its recipe has; None where its record does not say."""


def reach_of(record: TrialRecord) -> Reach:
    """How far the trial came."""
    return record.epochs_done, record.settings.get("recipe", {}).get("epochs")


def is_short(reach: Reach) -> bool:
    """Whether epochs are known to be missing."""
    done, asked = reach
    return asked is not None and done < asked


def is_given_up(record: TrialRecord) -> bool:
    """Whether the trial collapsed before its last epoch."""
    return record.status == "collapsed" and is_short(reach_of(record))


def say_collapse(record: TrialRecord) -> str:
    """What stands behind a value: ` (collapsed, epoch 4)`, ` (collapsed)` after the last epoch, nothing elsewhere."""
    if record.status != "collapsed":
        return ""
    return f" (collapsed, epoch {record.epochs_done})" if is_short(reach_of(record)) else " (collapsed)"


def say_reach(reaches: Sequence[Reach]) -> str:
    """`epoch 2 to 4 of 6`, of trials that were given up, at least one."""
    done, asked = [had for had, _ in reaches], [number for _, number in reaches if number is not None]
    return f"epoch {_say_range(done)} of {_say_range(asked)}"


def _say_range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
