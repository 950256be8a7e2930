"""What an attempt at a job came to: what its directory says, and what is said where that says nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gcc_search.errors import ResultsError
from gcc_search.keeper import EARLY_STOPPING
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import TrialRecord
from gcc_search.search.bucket_run import fetch_record
from gcc_search.search.jobs import Job
from gcc_search.search.retries import Death


def read_end(job: Job, run: Path, death: Death | None) -> TrialRecord:
    """The job's record; one that does not say how it ended was stopped early, or its worker died without a word.

    Args:
        death: why its worker ended, where it did.
    """
    fetch_record(job.folder(run))
    try:
        record = read_trial(job.folder(run)).record
    except ResultsError as error:
        reason = f"{death.reason if death else 'its worker ended'}, before its first word ({error})"
        failures = [*job.failures, death.kind if death else "crash"]
        return replace(never_ran(job, None, reason), attempts=len(failures), failures=failures)
    if record.status not in ("running", "interrupted"):
        return record
    if death is None:
        # The scheduler's stop reaches us before the worker has unwound; the worker will write the same.
        return replace(record, status="stopped", reason=EARLY_STOPPING)
    # `interrupted`: this attempt ended before it could say that it had begun.
    attempts = record.attempts + (record.status == "interrupted")
    # A worker that lives on, cut off from us, has written what it knew over what we had.
    failures = [*max(record.failures, list(job.failures), key=len), death.kind]
    return replace(
        record, status="failed", reason=death.reason, attempts=max(attempts, len(failures)), failures=failures
    )


def never_ran(job: Job, like: TrialRecord | None, reason: str) -> TrialRecord:
    """The record of a job that failed before it began; `like` is that of the one which kept it from beginning."""
    now = like.updated if like else datetime.now(UTC).isoformat(timespec="seconds")
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
