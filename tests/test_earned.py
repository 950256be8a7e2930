"""Which consistency counts towards C*."""

from __future__ import annotations

import numpy as np
import pytest

from gcc_search.earned import earned_consistency

CONSISTENCY, CHANCE = np.array([0.9, 1.0, 0.3]), np.array([0.5, 0.2, 0.4])


@pytest.mark.parametrize("kind", [bool, float])
def test_a_constant_map_earns_its_chance_level_and_no_more(kind):
    earned = earned_consistency(CONSISTENCY, CHANCE, np.array([0, 1, 0], dtype=kind))
    np.testing.assert_array_equal(earned, [0.9, 0.2, 0.3])


def test_where_no_map_is_constant_it_is_the_consistency():
    np.testing.assert_array_equal(earned_consistency(CONSISTENCY, CHANCE, np.zeros(3, dtype=bool)), CONSISTENCY)
