"""What came of each job that ended: trials are judged by their baseline, once that has ended, and the study is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gcc_search.results.schema import TrialRecord
from gcc_search.search.jobs import Job
from gcc_search.search.late_judge import LateJudge
from gcc_search.search.study import NetworkStudy, violations
from gcc_search.settings import NetworkName
from gcc_search.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A job that ended: its record, its baseline's, and whether both are finished with every constraint holding."""

    job: Job
    record: TrialRecord
    baseline: TrialRecord | None
    feasible: bool

    @property
    def has_failed(self) -> bool:
        """Whether the search is short of it: without a baseline that finished, its trials are compared to nothing."""
        return self.record.status == "failed" or not (self.job.is_trial or self.record.status == "finished")


class Judging:
    """Keeps the outcomes, and the trials that wait for their baseline.

    Args:
        late_judge: looks again at trials that were ahead of their baseline.
        write: keeps a record that is another than its worker left.
    """

    def __init__(
        self,
        space: SearchSpace,
        studies: Mapping[NetworkName, NetworkStudy],
        late_judge: LateJudge,
        write: Callable[[Job, TrialRecord], None],
    ) -> None:
        self._space, self._studies, self._late_judge, self._write = space, studies, late_judge, write
        # By baseline: trials that ended before it did.
        self._waiting: dict[str, list[tuple[Job, TrialRecord]]] = {}
        self.outcomes: list[Outcome] = []

    @property
    def num_trials(self) -> int:
        """Those that wait for their baseline included."""
        return sum(outcome.job.is_trial for outcome in self.outcomes) + sum(map(len, self._waiting.values()))

    def unjudged(self) -> list[Outcome]:
        """Trials that still wait for their baseline, as of a search that ends before it."""
        waiting = [pair for pairs in self._waiting.values() for pair in pairs]
        return [Outcome(job=job, record=record, baseline=None, feasible=False) for job, record in waiting]

    def put_off(self, job: Job, record: TrialRecord) -> None:
        """A trial that ended before its baseline did."""
        self._waiting.setdefault(job.identity.baseline or "", []).append((job, record))

    def add_other(self, job: Job, record: TrialRecord) -> None:
        """A baseline or a start network that ended, and with it the trials that waited for it."""
        self.outcomes.append(Outcome(job=job, record=record, baseline=None, feasible=False))
        for trial, ended in self._waiting.pop(job.id, []):
            self.add_trial(trial, ended, record)

    def add_trial(self, job: Job, record: TrialRecord, baseline: TrialRecord | None) -> None:
        """A trial that ended, as its baseline has; None where there is none any more."""
        late = baseline and self._late_judge.corrected(job, record, baseline)
        if late:
            record = late
            self._write(job, record)
        self._studies[job.settings.network].tell(record, baseline)
        holds = all(value <= 0 for value in violations(self._space, record, baseline).values())
        # Compared to nothing, it is left out of what is analysed.
        is_compared = baseline is not None and baseline.status == "finished"
        feasible = record.status == "finished" and is_compared and holds
        self.outcomes.append(Outcome(job=job, record=record, baseline=baseline, feasible=feasible))
