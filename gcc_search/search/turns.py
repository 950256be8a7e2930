"""Whose turn it is: of which network the next trial is asked for, and what a trial takes."""

from __future__ import annotations

from collections.abc import Sequence

from gcc_search.results.schema import Role, TrialRecord
from gcc_search.search.study import NetworkStudy

# The last trials are those that keep all devices busy for so many times as long as one trial of the slowest network
# takes: beside it, quick ones are left that fill the other devices until all end at much the same time.
LAST_ROUNDS = 1.5
# And no more than these of all: on many devices a network's trials would otherwise be drawn all at once.
LAST_SHARE = 0.5
# What a trial takes where none has ended yet: it has two views.
TRIAL_OVER_BASELINE = 2.0


class Turns:
    """Networks take turns, so that few trials of one run at a time, and its sampler knows of the others when it draws.

    The last trials are asked for slowest first: one slow trial that begins when all others end keeps one device busy.
    The order between networks changes no trial.

    Args:
        slots: how many trials run at a time. total: how many there are in all.
    """

    def __init__(self, slots: int, total: int) -> None:
        self._slots, self._total = slots, total
        # Seconds of those that have ended, and their number.
        self._ended: dict[tuple[str, Role], tuple[float, int]] = {}
        self._longest: dict[tuple[str, Role], float] = {}

    def add(self, record: TrialRecord) -> None:
        """A job that has ended."""
        if record.status == "failed":
            return
        key = (record.network, record.role)
        seconds, number = self._ended.get(key, (0.0, 0))
        self._ended[key] = (seconds + record.device_seconds, number + 1)
        if record.status == "finished":
            self._longest[key] = max(record.device_seconds, self._longest.get(key, 0.0))

    def choose(self, studies: Sequence[NetworkStudy]) -> NetworkStudy:
        """One of these, none of which is exhausted."""
        seconds = [self.mean_seconds(study.network) for study in studies]
        known = [item for item in seconds if item is not None]
        left = [study.cap - study.num_asked for study in studies]
        if len(known) == len(studies) and sum(left) <= LAST_SHARE * self._total:
            device_seconds = sum(number * item for number, item in zip(left, known, strict=True))
            if device_seconds <= LAST_ROUNDS * self._slots * max(known):
                return studies[known.index(max(known))]
        return min(studies, key=lambda study: study.num_asked)

    def mean_seconds(self, network: str) -> float | None:
        """Of a network's trials, however they ended; None where neither one nor a baseline has."""
        if (network, "trial") in self._ended:
            seconds, number = self._ended[network, "trial"]
            return seconds / number
        seconds, number = self._ended.get((network, "baseline"), (0.0, 0))
        return TRIAL_OVER_BASELINE * seconds / number if number else None

    def most_seconds(self, network: str, role: Role) -> float | None:
        """What one may take that finishes: as the longest that has; None where that is not known."""
        if role == "trial" and (network, role) not in self._longest:
            baseline = self._longest.get((network, "baseline"))
            return None if baseline is None else TRIAL_OVER_BASELINE * baseline
        return self._longest.get((network, role))
