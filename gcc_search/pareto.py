"""Which of many rows no other beats: the one rule by which the screen and the analysis name a frontier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def non_dominated(values: NDArray[np.float64], maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Mask of the rows of `values` (n, m) that no row beats; equal rows stand or fall together.

    A row beats another when it is at least as good in all m columns and better in one. A row with NaN is never on the
    frontier and beats nothing.

    Raises:
        ValueError: `maximise` does not have one entry per column.
    """
    if values.ndim != 2 or values.shape[1] != len(maximise):
        raise ValueError(f"values must be (n, {len(maximise)}), one column per entry of maximise, got {values.shape}")
    gains = np.where(np.asarray(maximise, dtype=bool), values, -values)
    places = np.flatnonzero(~np.isnan(gains).any(axis=1))
    # By falling first column, ties by the second, and so on: a row is only beaten by one that comes before it.
    places = places[np.lexsort(-gains[places, ::-1].T)] if values.size else places
    ordered = gains[places]
    on_frontier = np.zeros(len(values), dtype=bool)
    on_frontier[places] = _staircase(ordered) if values.shape[1] == 2 else _peel(ordered)
    return on_frontier


def _staircase(ordered: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of two columns: the rows whose second value is above all before them, and their equals."""
    if len(ordered) == 0:
        return np.zeros(0, dtype=bool)
    highest = np.maximum.accumulate(ordered[:, 1])
    rises = np.r_[True, ordered[1:, 1] > highest[:-1]]
    is_first = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
    return np.asarray(rises[is_first][np.cumsum(is_first) - 1])


def _peel(ordered: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The first row is on the frontier; without it, its equals and those that it beats, so is the next that is left.

    A pass over what is left for each distinct row of the frontier: ten thousand rows take milliseconds.
    """
    on_frontier = np.zeros(len(ordered), dtype=bool)
    places = np.arange(len(ordered))
    while len(places):
        on_frontier[places[(ordered == ordered[0]).all(axis=1)]] = True
        is_left = (ordered > ordered[0]).any(axis=1)
        ordered, places = ordered[is_left], places[is_left]
    return on_frontier
