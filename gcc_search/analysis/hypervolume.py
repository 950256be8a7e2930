"""The volume that a set of points dominates: one number for how far a frontier reaches.

E. Zitzler and L. Thiele, Multiobjective optimization using evolutionary algorithms, PPSN 1998. Exact, by slicing along
the last axis (C. M. Fonseca and others, CEC 2006); a few hundred points in three dimensions take milliseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np

from gcc_search.analysis.bootstrap import Floats
from gcc_search.pareto import non_dominated


def hypervolume(gains: Floats) -> float:
    """Volume between 0 and the points of `gains` (n, m), in [0, 1] where all lie in the unit cube.

    Each axis runs from the reference point, 0, upwards; what lies below 0 dominates nothing. NaN is left out.
    """
    known = gains[~np.isnan(gains).any(axis=1)]
    return _volume(np.clip(known, 0.0, None))


def _volume(gains: Floats) -> float:
    if len(gains) == 0:
        return 0.0
    if gains.shape[1] == 1:
        return float(gains.max())
    best = gains[non_dominated(gains, [True] * gains.shape[1])]
    ordered = best[np.argsort(-best[:, -1], kind="stable")]
    if gains.shape[1] == 2:
        return _area(ordered)
    # Between one height and the next lower one, the points above it dominate the same area.
    depths = ordered[:, -1] - np.append(ordered[1:, -1], 0.0)
    if gains.shape[1] == 3:
        return math.fsum(depth * area for depth, area in zip(depths.tolist(), _areas(ordered), strict=True))
    slices = [depth * _volume(ordered[: row + 1, :-1]) for row, depth in enumerate(depths.tolist()) if depth > 0]
    return math.fsum(slices)


def _areas(ordered: Floats) -> Iterator[float]:
    """Dominated in the first two columns by the first row, by the first two rows, and so on; the staircase is kept."""
    stairs: list[tuple[float, float]] = []
    for x, y in ordered[:, :2].tolist():
        # A row of the frontier has no better one above it: in the plane it hides what is left and below, if anything.
        first = bisect_left(stairs, -y, key=lambda stair: -stair[1])
        last = bisect_right(stairs, x, lo=first, key=lambda stair: stair[0])
        hidden = [stair for stair in stairs[first:last] if stair != (x, y)]
        stairs[first : first + len(hidden)] = [(x, y)]
        yield _area(np.array(stairs))


def _area(ordered: Floats) -> float:
    """Of a staircase, by falling height."""
    widths = np.diff(np.maximum.accumulate(ordered[:, 0]), prepend=0.0)
    return float(widths @ ordered[:, 1])
