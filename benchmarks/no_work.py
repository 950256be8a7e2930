"""Trials that train nothing: what is left is what it costs to hand them out. Runs in Ray's workers; needs no torch."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ray import tune

from gcc_search.occupancy import only_writer
from gcc_search.results.schema import TrialRecord
from gcc_search.results.writer import write_trial
from gcc_search.search.jobs import Job

_warmed: list[bool] = []
METRICS = ("corrected_consistency", "gini", "accuracy_points")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a trial lasts, and how often it reports.

    Args:
        epochs: reports. Early stopping compares trials after the first, so that there must be a second one.
        warm_up: a process's first trial, until all others have started. Ray gives a trial that waits for its own new
            worker the first one that is free; where trials are shorter than a start, new workers are called off and
            called for again all the time.
    """

    epochs: int
    seconds: float
    warm_up: float

    def sleep(self) -> None:
        """For an epoch of it."""
        if self.seconds:
            time.sleep(self.seconds / self.epochs if _warmed else self.warm_up)
            _warmed.append(True)


def report_only(config: dict[str, Any], *, pace: Pace) -> None:
    """For Ray Tune alone: as many reports with the same values, and no file."""
    values = _measured(config, random.Random(repr(config)))
    for epoch in range(1, pace.epochs + 1):
        pace.sleep()
        tune.report({"epoch": epoch} | values)


def record_only(
    config: dict[str, Any],
    *,
    run: str,
    device: str,
    threads: int,
    fingerprints: dict[int, str],
    num_processes: int,
    pace: Pace,
) -> None:
    """For gcc-search: reports as `train_job` does, and leaves the record of a trial that finished.

    `write_seconds` of the last report is what the record took, fsync included.
    """
    job = Job.from_config(config)
    identity = job.in_reports()
    values = values_of(job)
    written = 0.0
    for epoch in range(1, pace.epochs + 1):
        if job.is_trial:
            pace.sleep()
        if epoch == pace.epochs:
            began = time.perf_counter()
            write_record(job, Path(run), next(iter(fingerprints.values())))
            written = time.perf_counter() - began
        # All alike after the first epoch: early stopping compares them all, and stops none.
        told = values if epoch == pace.epochs else values | {"corrected_consistency": 0.0}
        tune.report(identity | {"epoch": epoch, "train_seconds": 0.0, "write_seconds": written} | told)


def write_record(job: Job, run: Path, fingerprint: str, *, seconds: float = 0.0) -> None:
    """The record of a job that finished after so many seconds, alone in its folder below `run`."""
    values = values_of(job)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = TrialRecord(
        id=job.id,
        role=job.identity.role,
        status="finished",
        reason=None,
        network=job.settings.network,
        settings=job.settings.model_dump(mode="json"),
        sampled=job.identity.sampled,
        baseline=job.identity.baseline,
        node="benchmark",
        device="cpu",
        started=now,
        updated=now,
        device_seconds=seconds,
        epochs_done=job.settings.recipe.epochs,
        validation={**values},
        test={**values, "iauc": 0.8, "dauc": 0.2},
        data_fingerprint=fingerprint,
        versions={"gcc_search": "benchmark"},
    )
    folder = job.folder(run)
    with only_writer(folder):
        write_trial(folder, record)


def values_of(job: Job) -> dict[str, float]:
    return _measured(job.identity.sampled, random.Random(job.id))


def _measured(sampled: dict[str, Any], noise: random.Random) -> dict[str, float]:
    """Means of a split: more alpha, more consistent; more beta, sparser; both cost accuracy."""
    alpha, beta = float(sampled.get("alpha", 0.0)), float(sampled.get("beta", 0.0))
    return {
        "corrected_consistency": 0.35 + 0.05 * math.log1p(10 * alpha) + 0.02 * noise.gauss(0, 1),
        "gini": 0.4 + 0.12 * math.log1p(5 * beta) - 0.02 * math.log1p(10 * alpha) + 0.02 * noise.gauss(0, 1),
        "accuracy_points": 94 - 0.1 * alpha - 2 * beta + 0.5 * noise.gauss(0, 1),
    }
