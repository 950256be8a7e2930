"""Ray's own lines about trials, unsaid: ours are beside the table."""

from __future__ import annotations

from ray.tune.progress_reporter import TrialProgressCallback


class Unsaid(TrialProgressCallback):
    """In the place of the one that Ray adds, which prints of a trial that ends without a report, whatever `verbose` is.

    So ends a trial that is gone on with where only its scoring was left (Ray 2.60).
    """

    def _print(self, msg: str) -> None:
        """Nothing."""
