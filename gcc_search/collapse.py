"""When a trial is given up: it diverged, or it collapsed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gcc_search.results.schema import EpochRow, Status
from gcc_search.settings import Collapse

# Share of constant maps, and the shortcut "consistent because input-independent".
COLLAPSE_DEGENERATE = 0.5
COLLAPSE_CORRECTED, COLLAPSE_CONSISTENCY = 0.05, 0.9

Verdict = tuple[Status, str]


def diverged(row: EpochRow) -> Verdict | None:
    """Status and reason of a trial whose loss is not finite any more."""
    return None if math.isfinite(row.loss) else ("diverged", f"loss was not finite in epoch {row.epoch}")


class Judge:
    """Looks at a trial's rows as they come, for three signs; a baseline, without a reference, shows none.

    Its baseline may train beside it. A row that is further than that has come is looked at again once it is not.

    Args:
        epochs: how many the trial has, and its baseline.
        reference: the baseline's validation accuracy after each epoch so far, in points.
        earlier: the trial's rows from before it was interrupted, when its baseline may not have come so far.
    """

    def __init__(
        self,
        rule: Collapse,
        reference: Callable[[], Sequence[float]] | None,
        *,
        epochs: int,
        earlier: Sequence[EpochRow] = (),
    ) -> None:
        self._rule, self._reference, self._epochs = rule, reference, epochs
        self._open = tuple(earlier)

    def verdict(self, row: EpochRow) -> Verdict | None:
        """Status and reason of a trial that is to be given up after this row."""
        if self._reference is None:
            return diverged(row)
        reached, rows = self._reference(), (*self._open, row)
        if found := first_verdict(rows, reached, self._rule, epochs=self._epochs):
            return found
        self._open = tuple(item for item in rows if points_compared(reached, item.epoch, epochs=self._epochs) is None)
        return None


def first_verdict(rows: Sequence[EpochRow], reached: Sequence[float], rule: Collapse, *, epochs: int) -> Verdict | None:
    """Status and reason of a trial by the first of its rows that is a reason to give it up; None where none is.

    With all that its baseline reached it is what `Judge` says, had the baseline been trained before.

    Args:
        rows: in order. reached, epochs: as `Judge` has them.
    """
    first = min(rule.min_epochs, epochs)
    for row in rows:
        if failure := diverged(row):
            return failure
        points = points_compared(reached, row.epoch, epochs=epochs)
        if row.epoch >= first and (sign := sign_of_collapse(row, points, limit=rule.points)):
            return "collapsed", f"{sign} in epoch {row.epoch}"
    return None


def epochs_needed(epoch: int, *, epochs: int) -> int:
    """How many epochs of a baseline there must be to compare a trial with it after `epoch` of `epochs`."""
    return epochs if epoch >= epochs else epoch_compared(epoch)


def points_compared(reached: Sequence[float], epoch: int, *, epochs: int) -> float | None:
    """What a trial's accuracy after `epoch` of `epochs` is compared to; None where its baseline has not come so far.

    Args:
        reached: as `Judge` has it from its reference.
    """
    passed = epochs_needed(epoch, epochs=epochs)
    if passed > len(reached):
        return None
    return reached[passed - 1] if passed else 0.0


def epoch_compared(epoch: int) -> int:
    """After which epoch a baseline was as far as a trial ought to be after `epoch`, before its last one; 0: before any.

    Half as many: explanation terms slow a new classifier down before it settles.
    """
    return epoch // 2


def sign_of_collapse(row: EpochRow, baseline_points: float | None, *, limit: float) -> str | None:
    """What is wrong with it, in words; None where nothing is. `baseline_points`: None where they are not known."""
    if sign := sign_of_accuracy(row.accuracy_points, baseline_points, limit=limit):
        return sign
    if row.degenerate_fraction is not None and row.degenerate_fraction > COLLAPSE_DEGENERATE:
        return f"{row.degenerate_fraction:.0%} of the maps constant"
    corrected, consistency = row.corrected_consistency, row.consistency
    if corrected is None or consistency is None:
        return None
    if corrected < COLLAPSE_CORRECTED and consistency > COLLAPSE_CONSISTENCY:
        return f"maps ignore the image (C* {corrected:.2f}, consistency {consistency:.2f})"
    return None


def sign_of_accuracy(points: float | None, baseline_points: float | None, *, limit: float) -> str | None:
    """What is wrong with an accuracy, in words; None where nothing is, or one of the two is not known."""
    if points is None or baseline_points is None:
        return None
    # To the rounding of two shares of images.
    drop = round(baseline_points - points, 9)
    return f"accuracy {drop:.1f} points under the baseline's" if drop > limit else None
