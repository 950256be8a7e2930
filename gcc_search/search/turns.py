"""Whose turn it is: of which network the next trial is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from gcc_search.results.schema import TrialRecord
from gcc_search.search.study import NetworkStudy

# The last trials are those that keep all devices busy for so many times as long as one trial of the slowest network
# takes: beside it, quick ones are left that fill the other devices until all end at much the same time.
LAST_ROUNDS = 1.5


class Turns:
    """Networks take turns, so that few trials of one run at a time, and its sampler knows of the others when it draws.

    The last trials are asked for slowest first: one slow trial that begins when all others end keeps one device busy.
    The order between networks changes no trial.

    Args:
        slots: how many trials run at a time.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        # By network: seconds, and number, of the trials that have ended; those of its baselines, which come first.
        self._trials: dict[str, tuple[float, int]] = {}
        self._baselines: dict[str, tuple[float, int]] = {}

    def add(self, record: TrialRecord) -> None:
        """A trial or a baseline that has ended."""
        if record.status == "failed" or record.role == "start":
            return
        seen = self._trials if record.role == "trial" else self._baselines
        seconds, number = seen.get(record.network, (0.0, 0))
        seen[record.network] = (seconds + record.device_seconds, number + 1)

    def choose(self, studies: Sequence[NetworkStudy]) -> NetworkStudy:
        """One of these, none of which is exhausted."""
        seconds = [self.seconds(study.network) for study in studies]
        known = [item for item in seconds if item is not None]
        if len(known) == len(studies):
            left = sum((study.cap - study.num_asked) * item for study, item in zip(studies, known, strict=True))
            slowest = max(known)
            if left <= LAST_ROUNDS * self._slots * slowest:
                return studies[known.index(slowest)]
        return min(studies, key=lambda study: study.num_asked)

    def seconds(self, network: str) -> float | None:
        """What one trial takes on the average; None where none has ended."""
        seconds, number = self._trials.get(network) or self._baselines.get(network) or (0.0, 0)
        return seconds / number if number else None
