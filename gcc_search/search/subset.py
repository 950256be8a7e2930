"""Of points that no other of them beats, those that together add most hypervolume, chosen greedily."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from optuna._hypervolume.hssp import _solve_hssp

from gcc_search.search.levels import Points, Rows


def choose_subset(points: Points, count: int, reference: NDArray[np.float64]) -> Rows:
    """Places of `count` of the `points` (n, m), in no particular order; less is better in every column.

    What Optuna's `_solve_hssp` chooses, where candidates differ by more than rounding. That one computes the whole
    hypervolume anew for each candidate: in three columns, 300 of 600 points take it half a second, seven times as long.

    Args:
        reference: no point has more than this in any column.
    """
    places = np.arange(len(points))
    unique, first = np.unique(points, return_index=True, axis=0)
    if points.shape[1] != 3 or not np.isfinite(reference).all() or not count < len(unique):
        chosen: Rows = _solve_hssp(points, places, count, reference)
        return chosen
    greedy: Rows = first[_Staircases(unique, reference).choose(count)]
    return greedy


class _Staircases:
    """The region that chosen points (n, 3) beat, as its depth over a grid whose lines are all points' first two values.

    Args:
        points: unique.
    """

    def __init__(self, points: Points, reference: NDArray[np.float64]) -> None:
        self._points, self._reference = points, reference
        lines = [np.unique(points[:, column]) for column in (0, 1)]
        self._rows, self._columns = (np.searchsorted(line, points[:, i]) for i, line in enumerate(lines))
        self._heights, self._widths = (np.diff(line, append=reference[i]) for i, line in enumerate(lines))
        self._depths = reference[2] - points[:, 2]
        self._beaten = np.zeros((len(lines[0]), len(lines[1])))

    def choose(self, count: int) -> Rows:
        """Places of `count` points, each the one that adds most to those before it."""
        alone = (self._reference - self._points).prod(axis=1)
        # What each adds; of most of them no more than what it can add at most, which is seldom worth a closer look.
        adds = alone.copy()
        chosen = np.empty(count, dtype=np.int64)
        for number in range(count):
            best = chosen[number] = self._find_best(adds) if number else int(np.argmax(adds))
            self._cover(best)
            shared = np.maximum(self._points, self._points[best])
            np.minimum(adds, alone - (self._reference - shared).prod(axis=1), out=adds)
            adds[best] = -np.inf
        return chosen

    def _find_best(self, adds: NDArray[np.float64]) -> int:
        best, most = -1, -np.inf
        for place in np.argsort(-adds, kind="stable"):
            if adds[place] < most:
                break
            adds[place] = self._added(place)
            if adds[place] > most:
                best, most = int(place), adds[place]
        return best

    def _added(self, place: int) -> float:
        row, column, depth = self._rows[place], self._columns[place], self._depths[place]
        # Depths fall in neither direction: what is as deep already ends each row and each column of what is added.
        end_row = row + int(np.searchsorted(self._beaten[row:, column], depth))
        end_column = column + int(np.searchsorted(self._beaten[row, column:], depth))
        added = np.maximum(depth - self._beaten[row:end_row, column:end_column], 0)
        return float(self._heights[row:end_row] @ added @ self._widths[column:end_column])

    def _cover(self, place: int) -> None:
        beaten = self._beaten[self._rows[place] :, self._columns[place] :]
        np.maximum(beaten, self._depths[place], out=beaten)
