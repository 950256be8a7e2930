"""What the screen says of all trials that have ended, kept up to date; counted anew at each end, it would be slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gcc_search.search.frontier import find_frontier
from gcc_search.search.judging import Outcome
from gcc_search.space import SearchSpace


class Tally:
    """Counts trials, not baselines.

    Args:
        finished_seconds: device time of the finished ones, in all. frontier: as `find_frontier` orders it.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.statuses: Counter[str] = Counter()
        self.num_feasible = 0
        self.finished_seconds = 0.0
        self.frontier: list[Outcome] = []

    @property
    def num_ended(self) -> int:
        return self.statuses.total()

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Those that have ended since, in their order."""
        trials = [outcome for outcome in outcomes if outcome.job.is_trial]
        self.statuses.update(outcome.record.status for outcome in trials)
        self.num_feasible += sum(outcome.feasible for outcome in trials)
        self.finished_seconds += sum(o.record.device_seconds for o in trials if o.record.status == "finished")
        if any(outcome.feasible for outcome in trials):
            # Who is beaten once stays beaten: by who beat it, or by who beats that one.
            self.frontier = find_frontier(self._space, [*self.frontier, *trials])
