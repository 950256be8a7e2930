"""The searcher that Ray Tune asks for the next job: baselines before the trials that need them, networks in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ray.tune.search import Searcher

from gcc_search.errors import ResultsError
from gcc_search.recording import EARLY_STOPPING
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import TrialRecord
from gcc_search.results.writer import write_trial
from gcc_search.search.baselines import find_baseline
from gcc_search.search.jobs import Job, JobMaker
from gcc_search.search.study import NetworkStudy, trial_name, violations
from gcc_search.settings import NetworkName
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import Value


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A job that ended: its record, its baseline's, and whether it is finished with every constraint holding."""

    job: Job
    record: TrialRecord
    baseline: TrialRecord | None
    feasible: bool


class JobQueue(Searcher):
    """Hands out jobs, and takes what the trial directories say came of them."""

    def __init__(
        self, space: SearchSpace, run: Path, maker: JobMaker, studies: Mapping[NetworkName, NetworkStudy]
    ) -> None:
        super().__init__()
        self._space, self._run, self._maker, self._studies = space, run, maker, studies
        self._waiting: list[Job] = []
        self._running: dict[str, Job] = {}
        self._settled: dict[str, TrialRecord] = {}
        self.outcomes: list[Outcome] = []

    @property
    def num_trials(self) -> int:
        return sum(study.cap for study in self._studies.values())

    @property
    def running(self) -> tuple[Job, ...]:
        return tuple(self._running.values())

    @property
    def num_waiting(self) -> int:
        """Trials that were asked for and have not begun."""
        return sum(job.is_trial for job in self._waiting)

    # An earlier process's side: what it had trained, in the order it had asked.

    def recall(self, record: TrialRecord, baseline: TrialRecord | None, *, is_whole: bool) -> None:
        """A trial that had ended. A baseline that is not whole counts for this trial, and is trained again."""
        study = self._studies[cast(NetworkName, record.network)]
        study.recall(record.id, record.sampled)
        *prerequisites, job = self._maker.jobs_of(study.network, record.id, record.sampled)
        if baseline is not None:
            self._settled[baseline.id] = baseline
        self._close(job, record)
        if not is_whole:
            self._settled.pop(job.identity.baseline or "", None)
            self._wait_for_prerequisites(prerequisites)

    def go_on_with(self, network: NetworkName, number: int, record: TrialRecord | None) -> None:
        """A trial that had begun; without its record its settings are sampled again."""
        study = self._studies[network]
        if record is None:
            trial_id, sampled = study.ask()
            assert trial_id == trial_name(network, number), "trials are recalled in order"
        else:
            trial_id, sampled = record.id, record.sampled
            study.recall(trial_id, sampled)
        self._wait_for(study.network, trial_id, sampled)

    # Ray's side: the four methods that Tune calls.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        self._drop_hopeless()
        while True:
            job = self._take_ready()
            if job is not None:
                self._running[trial_id] = job
                return job.to_config()
            if not self._ask():
                return None if self._waiting else str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: what counts is what the trial directory says at the end."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        job = self._running.pop(trial_id)
        self._close(job, self._read(job, died=error))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the trial directories are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    # Ours.

    def _ask(self) -> bool:
        """Asks the next study in turn for a trial; False where none may be asked now."""
        held = {job.settings.network for job in self._waiting if job.is_trial}
        open_studies = [s for s in self._studies.values() if not s.is_exhausted and s.network not in held]
        if not open_studies:
            return False
        study = min(open_studies, key=lambda item: item.num_asked)
        self._wait_for(study.network, *study.ask())
        return True

    def _wait_for(self, network: str, trial_id: str, sampled: dict[str, Value]) -> None:
        *prerequisites, trial = self._maker.jobs_of(network, trial_id, sampled)
        self._wait_for_prerequisites(prerequisites)
        self._waiting.append(trial)

    def _wait_for_prerequisites(self, jobs: list[Job]) -> None:
        self._waiting += [job for job in jobs if not self._is_known(job)]

    def _is_known(self, job: Job) -> bool:
        """Whether a baseline is waiting, running, or trained already, here or in a run beside this one."""
        if job.id in self._settled or job.id in {other.id for other in (*self._waiting, *self._running.values())}:
            return True
        record = find_baseline(self._run, job.id)
        if record is None:
            return False
        self._settled[job.id] = record
        return True

    def _take_ready(self) -> Job | None:
        for job in self._waiting:
            if all(self._is_trained(key) for key in job.needs):
                self._waiting.remove(job)
                return job
        return None

    def _is_trained(self, key: str) -> bool:
        return key in self._settled and self._settled[key].status == "finished"

    def _drop_hopeless(self) -> None:
        """Records as failed the jobs whose baseline or start network failed."""
        for job in list(self._waiting):
            failed = next((self._settled[key] for key in job.needs if self._has_failed(key)), None)
            if failed is not None:
                self._waiting.remove(job)
                reason = f"the {failed.role} {failed.id} it needs {failed.status}: {failed.reason}"
                self._close(job, _never_ran(job, failed, reason))

    def _has_failed(self, key: str) -> bool:
        return key in self._settled and self._settled[key].status != "finished"

    def _read(self, job: Job, *, died: bool) -> TrialRecord:
        """The job's record; one that still says `running` was stopped early, or its worker died without a word."""
        try:
            record = read_trial(job.folder(self._run)).record
        except ResultsError as error:
            return _never_ran(job, None, f"its worker died before its first word ({error})")
        if record.status != "running":
            return record
        if not died:
            # The scheduler's stop reaches us before the worker has unwound; the worker will write the same.
            return replace(record, status="stopped", reason=EARLY_STOPPING)
        record = replace(record, status="failed", reason="its worker died (killed, or out of memory)")
        write_trial(job.folder(self._run), record)
        return record

    def _close(self, job: Job, record: TrialRecord) -> None:
        if not job.folder(self._run).joinpath("trial.json").exists():
            write_trial(job.folder(self._run), record)
        if not job.is_trial:
            self._settled[job.id] = record
            self.outcomes.append(Outcome(job=job, record=record, baseline=None, feasible=False))
            return
        baseline = self._settled.get(job.identity.baseline or "")
        self._studies[job.settings.network].tell(record, baseline)
        holds = all(value <= 0 for value in violations(self._space, record, baseline).values())
        feasible = record.status == "finished" and holds
        self.outcomes.append(Outcome(job=job, record=record, baseline=baseline, feasible=feasible))


def _never_ran(job: Job, like: TrialRecord | None, reason: str) -> TrialRecord:
    now = like.updated if like else ""
    return TrialRecord(
        id=job.id,
        role=job.identity.role,
        status="failed",
        reason=reason,
        network=job.settings.network,
        settings=job.settings.model_dump(mode="json"),
        sampled=job.identity.sampled,
        baseline=job.identity.baseline,
        node="",
        device="",
        started=now,
        updated=now,
        device_seconds=0.0,
        epochs_done=0,
        attempts=0,
        data_fingerprint=like.data_fingerprint if like else "",
        versions=like.versions if like else {},
    )
