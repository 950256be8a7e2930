"""What a baseline has of the explanation of its trials."""

from __future__ import annotations

import pytest

from gcc_search.baseline import SHARED, baseline_explanation
from gcc_search.settings import Explanation


@pytest.mark.parametrize("views", ["first", "both"])
def test_a_baseline_has_neither_term_and_cross_entropy_on_its_trials_views(views):
    asked = Explanation(alpha=1, beta=2, p=0.5, distance="correlation", detach="head", ce_on_views=views)
    assert baseline_explanation(asked) == Explanation(ce_on_views=views)


def test_what_is_shared_are_settings_of_the_explanation():
    assert set(SHARED) <= set(Explanation.model_fields)
