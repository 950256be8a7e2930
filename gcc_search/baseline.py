"""Which settings a trial shares with the baseline that it is compared to, beside network, images, recipe and seed."""

from __future__ import annotations

from gcc_search.settings import Explanation

SHARED = ("ce_on_views",)
"""Of the explanation: cross-entropy on the second view, which is augmentation and needs neither alpha nor beta."""
AUGMENTING = ("photometric",)
"""Of the explanation: what augments where cross-entropy is on the second view, and is shared there alone."""


def shared_names(*, on_both_views: bool) -> tuple[str, ...]:
    """What of the explanation is shared where cross-entropy is on both views, and where it is on the first alone."""
    return (*SHARED, *AUGMENTING) if on_both_views else SHARED


def baseline_explanation(explanation: Explanation) -> Explanation:
    """Of the baseline of trials with this explanation: alpha = beta = 0, and all else at its default but what is
    shared."""
    names = shared_names(on_both_views=explanation.ce_on_views == "both")
    return Explanation.model_validate({name: getattr(explanation, name) for name in names})
