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
    known = ~np.isnan(gains).any(axis=1)
    rivals = gains[known]
    on_frontier = np.zeros(len(values), dtype=bool)
    # One row against all at a time: n x m memory, and a thousand trials take a few milliseconds.
    for index in np.flatnonzero(known):
        at_least_as_good = (rivals >= gains[index]).all(axis=1)
        better_somewhere = (rivals > gains[index]).any(axis=1)
        on_frontier[index] = not (at_least_as_good & better_somewhere).any()
    return on_frontier
