"""The searcher that Ray Tune asks for the next job: start networks, baselines, then trials, networks in turn.

A baseline begins before the trials that are compared to it, and they do not wait for it: on many devices all but one
would. A trial that ends before its baseline does is judged when that has ended.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from gcc_search.atomic import remove_tree, require_room
from gcc_search.errors import OccupiedError, ResultsError
from gcc_search.occupancy import only_writer
from gcc_search.patience import Contact, patiently
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import TrialRecord
from gcc_search.results.writer import write_trial
from gcc_search.search.baselines import find_baseline
from gcc_search.search.bucket_run import fetch_record
from gcc_search.search.ends import never_ran, read_end
from gcc_search.search.giving_up import Failures
from gcc_search.search.hours import Hours
from gcc_search.search.jobs import FOLDERS, Job, JobMaker, baseline_combinations, start_combinations
from gcc_search.search.judging import Judging, Outcome
from gcc_search.search.late_judge import LateJudge
from gcc_search.search.retries import Death, again, goes_on, told
from gcc_search.search.study import NetworkStudy, trial_name
from gcc_search.search.turns import Turns
from gcc_search.settings import NetworkName
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import Value

# How long a worker that died may take to let go of its folder. One that still holds it then lives on, cut off from us.
LETTING_GO_SECONDS = 1.0
# For a record and a page or two of the study; below that, nothing is asked for and nothing told.
ROOM_BYTES = 1 << 18


class JobQueue(Searcher):
    """Hands out jobs, and takes what the trial directories say came of them.

    A job that failed and may be tried again goes to the front of those that wait; the study is told of its end only.
    """

    def __init__(
        self,
        space: SearchSpace,
        run: Path,
        maker: JobMaker,
        studies: Mapping[NetworkName, NetworkStudy],
        contact: Contact,
        *,
        slots: int,
    ) -> None:
        super().__init__()
        self._space, self._run, self._maker, self._studies = space, run, maker, studies
        self.contact = contact
        self._waiting: list[Job] = []
        self._running: dict[str, Job] = {}
        self._settled: dict[str, TrialRecord] = {}
        # Baselines and start networks of an earlier process that would end again as they did: without finishing.
        self.lost: dict[str, TrialRecord] = {}
        self._judging = Judging(space, studies, LateJudge(run), self._write)
        self._failures = Failures(space.max_failed_trials)
        self._turns = Turns(slots, sum(study.cap for study in studies.values()))
        self._hours = Hours(space.max_hours, lambda line: self.contact.tell(line))

    @property
    def outcomes(self) -> list[Outcome]:
        return self._judging.outcomes

    def all_outcomes(self) -> list[Outcome]:
        """`outcomes`, and as they ended those that still wait for their baseline."""
        return [*self._judging.outcomes, *self._judging.unjudged()]

    @property
    def num_trials(self) -> int:
        return sum(study.cap for study in self._studies.values())

    @property
    def running(self) -> tuple[Job, ...]:
        return tuple(self._running.values())

    @property
    def num_waiting(self) -> int:
        """Trials that were asked for and do not run."""
        return sum(job.is_trial for job in self._waiting)

    @property
    def num_ended(self) -> int:
        """Trials that have ended, those that wait for their baseline to be judged included."""
        return self._judging.num_trials

    @property
    def is_done(self) -> bool:
        """Whether every trial has ended, and every baseline that any of them needs."""
        return not (self._waiting or self._running) and all(study.is_exhausted for study in self._studies.values())

    @property
    def is_out_of_time(self) -> bool:
        """Whether something was not started that would not have ended in time."""
        return self._hours.have_kept_back and not self.is_done

    @property
    def gives_up(self) -> bool:
        """Whether so many trials have failed that no more are started."""
        return self._failures.are_too_many

    # An earlier process's side: what it had trained, in the order it had asked.

    def recall(self, record: TrialRecord, baseline: TrialRecord | None, *, is_whole: bool) -> None:
        """A trial that had ended.

        Args:
            baseline: as it had ended; None where it had not, or is lost: the trial is judged when it has again.
            is_whole: False where it counts for this trial alone: finished, but damaged, it is trained again, and where
                it failed, when another trial needs it.
        """
        study = self._studies[record.network]
        study.recall(record.id, record.sampled)
        *prerequisites, job = self._maker.jobs_of(study.network, record.id, record.sampled)
        if baseline is not None and baseline.status == "failed" and record.status != "failed":
            # What the trial is to be judged by: it may train well now.
            baseline = None
        if baseline is not None and baseline.id in self.lost:
            self._wait_for_prerequisites([job for job in prerequisites if job.id == baseline.id])
        elif baseline is not None:
            self._settled[baseline.id] = baseline
        elif record.status != "failed":
            self._wait_for_prerequisites(prerequisites)
        self._close(job, record)
        if baseline is not None and not is_whole:
            del self._settled[baseline.id]
            if baseline.status == "finished":
                self._wait_for_prerequisites(prerequisites)

    def go_on_with(self, network: NetworkName, number: int, record: TrialRecord | None) -> None:
        """A trial that had begun; without its record its settings are sampled again."""
        study = self._studies[network]
        if record is None:
            trial_id, sampled = study.ask()
            assert trial_id == trial_name(network, number), "trials are recalled in order"
            # More trials have ended than when it was asked for first: these may be other settings.
            remove_tree(self._run / FOLDERS["trial"] / trial_id / "checkpoint")
        else:
            trial_id, sampled = record.id, record.sampled
            study.recall(trial_id, sampled)
        self._wait_for(study.network, trial_id, sampled)

    # Ray's side: the methods that Tune calls.

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        self._await_room()
        self._drop_hopeless()
        job = self._next_job()
        if job is not None:
            self._running[trial_id] = job
            return job.to_config()
        # Whatever runs may have to be tried again: only when nothing does, it is over.
        return None if self._running else str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: what counts is what the trial directory says at the end."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        # After an error Ray tells the watchdog next, who calls `on_death`.
        if not error:
            job = self._running.pop(trial_id)
            self._settle(job, read_end(job, self._run, None))

    def on_death(self, trial_id: str, death: Death) -> None:
        """Why the worker of a job ended; heard right after `on_trial_complete` with an error."""
        job = self._running.pop(trial_id)
        try:
            with only_writer(job.folder(self._run), patience_seconds=LETTING_GO_SECONDS):
                self._settle(job, read_end(job, self._run, death))
        except OccupiedError:
            self._settle(job, read_end(job, self._run, death), is_free=False)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the trial directories are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    # Ours.

    def _next_job(self) -> Job | None:
        """What may start now. A job that is to be alone waits, and all others with it, until nothing runs."""
        if any(job.alone for job in self._running.values()):
            return None
        while not self.gives_up:
            job = self._find_ready()
            if job is not None:
                if job.alone and self._running:
                    return None
                self._waiting.remove(job)
                return job
            if not self._ask():
                return None
            self._drop_hopeless()
        return None

    def _ask(self) -> bool:
        """Asks the next study in turn for a trial; False where none may be asked now."""
        held = Counter(job.settings.network for job in self._waiting if job.is_trial)
        open_studies = [
            study
            for study in self._studies.values()
            if not study.is_exhausted
            # They wait for a start network. As many as there can be are trained side by side; more would only be drawn
            # without knowing of any trial's end.
            and held[study.network] < max(1, start_combinations(self._space))
            and not self._is_hopeless(study.network)
            and self._hours.hold(self._turns.most_seconds(study.network, "trial"))
        ]
        if not open_studies:
            return False
        study = self._turns.choose(open_studies)
        self._wait_for(study.network, *study.ask())
        return True

    def _wait_for(self, network: str, trial_id: str, sampled: dict[str, Value]) -> None:
        *prerequisites, trial = self._maker.jobs_of(network, trial_id, sampled)
        self._wait_for_prerequisites(prerequisites)
        self._waiting.append(self._as_left(trial))

    def _wait_for_prerequisites(self, jobs: list[Job]) -> None:
        self._waiting += [self._as_left(job) for job in jobs if not self._is_known(job)]

    def _as_left(self, job: Job) -> Job:
        fetch_record(job.folder(self._run))
        try:
            return again(job, read_trial(job.folder(self._run)).record)
        except ResultsError:
            # It has not begun, or its record is torn and says nothing.
            return job

    def _is_known(self, job: Job) -> bool:
        """Whether a baseline is waiting, running, or trained already, here or in a run beside this one."""
        if job.id in self._settled or job.id in {other.id for other in (*self._waiting, *self._running.values())}:
            return True
        if job.id in self.lost:
            # Told again: its trials are short of it still.
            self._settled[job.id] = self.lost[job.id]
            self._judging.add_other(job, self.lost[job.id])
            return True
        record = find_baseline(self._run, job.id, self.contact, on_gpu=self._maker.on_gpu)
        if record is None:
            return False
        self._settled[job.id] = record
        return True

    def _find_ready(self) -> Job | None:
        ready = (job for job in self._waiting if all(self._is_trained(key) for key in job.needs))
        return next((job for job in ready if self._hours.hold(self._seconds_left(job))), None)

    def _seconds_left(self, job: Job) -> float | None:
        """What it may take still; None where that is not known."""
        seconds = self._turns.most_seconds(job.settings.network, job.identity.role)
        return None if seconds is None else seconds * job.share_left

    def _is_trained(self, key: str) -> bool:
        return key in self._settled and self._settled[key].status == "finished"

    def _drop_hopeless(self) -> None:
        """Records as failed the jobs whose start network failed, and those not begun whose baseline did."""
        for job in list(self._waiting):
            keys = job.needs if job.has_begun else (*job.needs, job.identity.baseline or "")
            failed = next((self._settled[key] for key in keys if self._has_failed(key)), None)
            if failed is not None:
                self._waiting.remove(job)
                reason = f"the {failed.role} {failed.id} it needs {failed.status}: {failed.reason}"
                self._settle(job, never_ran(job, failed, reason))

    def _is_hopeless(self, network: str) -> bool:
        """Whether none of the baselines, or start networks, that its trials can need is finished, nor will be."""
        ended = (self.lost | self._settled).values()
        unfinished = Counter(r.role for r in ended if r.network == network and r.status != "finished")
        starts = start_combinations(self._space)
        return unfinished["baseline"] >= baseline_combinations(self._space) or 0 < starts <= unfinished["start"]

    def _has_failed(self, key: str) -> bool:
        return key in self._settled and self._settled[key].status != "finished"

    def _settle(self, job: Job, record: TrialRecord, *, is_free: bool = True) -> None:
        """The end of an attempt: the job's own end, too, unless it is tried again.

        Args:
            is_free: whether its worker is done with the folder; where not, the job alone remembers the failure.
        """
        is_last = not goes_on(record, self._space)
        if not is_last:
            line = told(record, self._space)
            if is_free:
                self._write(job, replace(record, status="interrupted", reason=line))
            self._waiting.insert(0, again(job, record))
            self.contact.tell(f"{job.id}: {line}")
        else:
            if record.status == "failed" and is_free:
                self._write(job, record)
            if job.is_trial:
                self._failures.add_trial(record)
            self._close(job, record)
        if why := self._failures.add_attempt(record, is_last=is_last):
            self.contact.tell(why)

    def _write(self, job: Job, record: TrialRecord) -> None:
        # The worker is done with it.
        patiently(functools.partial(write_trial, job.folder(self._run), record), self.contact)

    def _await_room(self) -> None:
        """Waits where the disk is full: SQLite cannot, and what it had half written would have to be undone."""
        patiently(functools.partial(require_room, self._run, ROOM_BYTES), self.contact)

    def _close(self, job: Job, record: TrialRecord) -> None:
        self._await_room()
        self._turns.add(record)
        if not job.is_trial:
            self._settled[job.id] = record
            self._judging.add_other(job, record)
            return
        key = job.identity.baseline or ""
        baseline = self._settled.get(key)
        if baseline is None and key in {other.id for other in (*self._waiting, *self._running.values())}:
            self._judging.put_off(job, record)
            self.contact.tell(f"{job.id}: {record.status}; judged when its baseline, {key}, has ended")
        else:
            self._judging.add_trial(job, record, baseline)
