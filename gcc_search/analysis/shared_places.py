"""Marks that would hide each other, drawn side by side: what lies exactly on one place is moved around it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from gcc_search.analysis.figures import GOLDEN

Offset = tuple[float, float]

# Between the middles of neighbours, in points: a little more than a mark is wide.
APART = 6.5
# More than so many lie on each other: they would reach into what stands beside.
MOST_APART = 37
# So many stand on one ring around their place, which is left free.
MOST_ON_RING = 6


def spread_apart(places: Sequence[Hashable]) -> list[Offset]:
    """For each mark how far it is moved, right and up, in points; (0, 0) where no other has its place.

    In the order given, the same way each time: on a ring, or on the spiral of a sunflower's seeds where more share it.
    """
    counts, seen = Counter(places), Counter[Hashable]()
    offsets = []
    for place in places:
        offsets.append(_offset(seen[place] % MOST_APART, min(counts[place], MOST_APART)))
        seen[place] += 1
    return offsets


def _offset(number: int, total: int) -> Offset:
    if total == 1:
        return (0.0, 0.0)
    if total <= MOST_ON_RING:
        # Two are told apart from left to right.
        turn, radius = number / total + 0.5, APART / (2 * math.sin(math.pi / total))
    else:
        turn, radius = number * GOLDEN, APART / 1.5 * math.sqrt(number + 0.5)
    angle = 2 * math.pi * turn
    return (round(radius * math.cos(angle), 6), round(radius * math.sin(angle), 6))
