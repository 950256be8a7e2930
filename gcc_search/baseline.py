"""Which settings a trial shares with the baseline that it is compared to, beside network, images, recipe and seed."""

from __future__ import annotations

from gcc_search.settings import Explanation

SHARED = ("ce_on_views",)
"""Of the explanation: cross-entropy on the second view, which is augmentation and needs neither alpha nor beta."""


def baseline_explanation(explanation: Explanation) -> Explanation:
    """Of the baseline of trials with this explanation: alpha = beta = 0, and all else at its default but `SHARED`."""
    return Explanation.model_validate({name: getattr(explanation, name) for name in SHARED})
