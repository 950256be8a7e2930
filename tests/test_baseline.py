"""What a baseline has of the explanation of its trials."""

from __future__ import annotations

import pytest

from gcc_search.baseline import baseline_explanation, shared_names
from gcc_search.settings import Explanation


@pytest.mark.parametrize("views", ["first", "both"])
def test_a_baseline_has_neither_term_and_cross_entropy_on_its_trials_views(views):
    others = {"distance": "correlation", "detach": "head", "opposing": "projected"}
    asked = Explanation(alpha=1, beta=2, p=0.5, ce_on_views=views, **others)
    assert baseline_explanation(asked) == Explanation(ce_on_views=views)


@pytest.mark.parametrize(("views", "expected"), [("first", 0.0), ("both", 0.5)])
def test_a_baseline_is_recoloured_as_its_trials_are_where_it_learns_from_the_second_view(views, expected):
    asked = Explanation(alpha=1, ce_on_views=views, photometric=0.5)
    assert baseline_explanation(asked) == Explanation(ce_on_views=views, photometric=expected)


def test_what_is_shared_are_settings_of_the_explanation():
    assert (
        set(shared_names(on_both_views=False)) < set(shared_names(on_both_views=True)) < set(Explanation.model_fields)
    )
