"""Which trials are tried again after a failure; decided from trial.json alone, so that `resume` decides alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gcc_search.errors import DataError, WeightsError
from gcc_search.results.schema import FailureKind, TrialRecord
from gcc_search.search.jobs import Job
from gcc_search.space import SearchSpace

# A second time alone, it would be the same network with the same batch on an empty device. (A smaller micro-batch would
# fit, but batch statistics would be others, and so would the result: the user's choice, not ours.)
MEMORY_RETRIES = 1
# As a failure's reason begins, or goes on after the name of the baseline that failed so.
_UNFIT = tuple(f"{error.__name__}: " for error in (DataError, WeightsError))
WORKER_DIED = "its worker died (killed, or crashed)"


@dataclass(frozen=True, kw_only=True)
class Death:
    """Why a worker ended without a word of its own."""

    kind: FailureKind
    reason: str


def goes_on(record: TrialRecord, space: SearchSpace) -> bool:
    """Whether a trial that failed, going by its record, is to be tried again."""
    if record.status != "failed" or not record.failures:
        return False
    allowed = {"crash": space.max_trial_failures, "memory": MEMORY_RETRIES, "error": 0}
    last = record.failures[-1]
    return record.failures.count(last) <= allowed[last]


def again(job: Job, record: TrialRecord) -> Job:
    """The same job after its failures: alone, once memory was short."""
    return replace(
        job,
        failures=tuple(record.failures),
        alone="memory" in record.failures,
        has_begun=True,
        share_left=1 - record.epochs_done / job.settings.recipe.epochs,
    )


def told(record: TrialRecord, space: SearchSpace) -> str:
    """What happened to a trial that is tried again, and how often that may still be."""
    if record.failures[-1] == "memory":
        return f"{record.reason}; tried again with nothing beside it"
    count = record.failures.count("crash")
    return f"{told_where(record)}; tried again, failure {count} of at most {space.max_trial_failures}"


def is_unfit(record: TrialRecord) -> bool:
    """Whether an attempt failed because its machine has other images, or not the weights, that the search has.

    One whose worker died before its first epoch was over may have: a broken driver ends every worker at its start.
    """
    reason = record.reason or ""
    died_at_once = reason.startswith(WORKER_DIED) and record.epochs_done == 0
    return record.status == "failed" and (died_at_once or any(words in reason for words in _UNFIT))


def told_where(record: TrialRecord) -> str:
    """Why an attempt failed; on which machine, where that decides and is not said."""
    reason = record.reason or ""
    return f"{record.node}: {reason}" if is_unfit(record) and record.node not in reason else reason
