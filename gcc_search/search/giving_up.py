"""When a search starts no more trials: once so many have failed, or its machines cannot train them."""

from __future__ import annotations

from gcc_search.results.schema import TrialRecord
from gcc_search.search.retries import is_unfit, told_where

# Attempts in a row. A machine that has other images fails one in a second, while others train for minutes: nothing
# but its own failures comes in between, and it would use up all trials.
MOST_UNFIT_IN_A_ROW = 10
_NO_MORE = "no more trials are started"


class Failures:
    """Counts them.

    Args:
        most_trials: `max_failed_trials`. None: only attempts that fail by their machine are counted, those in a row.
    """

    def __init__(self, most_trials: int | None) -> None:
        self._most_trials = most_trials
        self._num_trials = 0
        self._num_unfit = 0

    @property
    def are_too_many(self) -> bool:
        if self._most_trials is None:
            return self._num_unfit == MOST_UNFIT_IN_A_ROW
        return self._num_trials >= self._most_trials

    def add_trial(self, record: TrialRecord) -> None:
        """A trial that has ended for good, in this process: what made others fail may have been mended."""
        self._num_trials += record.status == "failed"

    def add_attempt(self, record: TrialRecord, *, is_last: bool) -> str | None:
        """An attempt at any job, after `add_trial`. Why no more trials are started, where it is this one's doing.

        Args:
            is_last: whether the job is not tried again.
        """
        if self._most_trials is not None:
            is_told = is_last and record.status == "failed" and self.are_too_many
            return f"{_NO_MORE}: {self._num_trials} failed (max_failed_trials)" if is_told else None
        # Once they are too many, they stay so.
        if self.are_too_many:
            return None
        self._num_unfit = self._num_unfit + 1 if is_unfit(record) else 0
        which = f"the last {self._num_unfit} attempts failed by their machine ({told_where(record)})"
        return f"{_NO_MORE}: {which}; mend it, or take it out, then resume" if self.are_too_many else None
