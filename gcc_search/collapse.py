"""When a trial is given up: it diverged, or it collapsed (METHOD 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gcc_search.results.schema import EpochRow, Status
from gcc_search.settings import Collapse

# Share of constant maps, and the shortcut "consistent because input-independent".
COLLAPSE_DEGENERATE = 0.5
COLLAPSE_CORRECTED, COLLAPSE_CONSISTENCY = 0.05, 0.9


def diverged(row: EpochRow) -> tuple[Status, str] | None:
    """Status and reason of a trial whose loss is not finite any more."""
    return None if math.isfinite(row.loss) else ("diverged", f"loss was not finite in epoch {row.epoch}")


def collapsed(row: EpochRow, reference: Sequence[float], rule: Collapse, *, epochs: int) -> tuple[Status, str] | None:
    """Status and reason of a trial that shows one of METHOD 7's three signs; a baseline, without a reference, has none.

    Args:
        reference: the baseline's validation accuracy after each epoch, in points.
        epochs: how many the trial has.
    """
    if not reference or row.epoch < min(rule.min_epochs, epochs):
        return None
    passed = len(reference) if row.epoch >= epochs else epoch_compared(row.epoch)
    baseline_points = reference[min(passed, len(reference)) - 1] if passed else 0.0
    sign = sign_of_collapse(row, baseline_points, limit=rule.points)
    return ("collapsed", f"{sign} in epoch {row.epoch}") if sign else None


def epoch_compared(epoch: int) -> int:
    """After which epoch a baseline was as far as a trial ought to be after `epoch`, before its last one; 0: before any.

    Half as many: explanation terms slow a new classifier down before it settles.
    """
    return epoch // 2


def sign_of_collapse(row: EpochRow, baseline_points: float, *, limit: float) -> str | None:
    """What is wrong with it, in words; None where nothing is."""
    # To the rounding of two shares of images.
    drop = round(baseline_points - row.accuracy_points, 9)
    if drop > limit:
        return f"accuracy {drop:.1f} points under the baseline's"
    if row.degenerate_fraction is not None and row.degenerate_fraction > COLLAPSE_DEGENERATE:
        return f"{row.degenerate_fraction:.0%} of the maps constant"
    corrected, consistency = row.corrected_consistency, row.consistency
    if corrected is None or consistency is None:
        return None
    if corrected < COLLAPSE_CORRECTED and consistency > COLLAPSE_CONSISTENCY:
        return f"maps ignore the image (C* {corrected:.2f}, consistency {consistency:.2f})"
    return None
