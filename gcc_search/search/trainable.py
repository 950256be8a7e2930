"""What Ray calls in a worker process: one job, its rows reported as they come."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from ray import tune

from gcc_search.recording import record_trial
from gcc_search.results.schema import EpochRow
from gcc_search.search.jobs import Job


def train_job(config: dict[str, Any], *, run: str, device: str, threads: int) -> None:
    """Trains `config`'s job in the run directory `run`. One that fails is recorded as failed and reported, not raised.

    The last epoch is reported after the test split is scored: Ray may end a trial inside a report, and nothing runs
    after that.
    """
    torch.set_num_threads(threads)
    job = Job.from_config(config)
    events = record_trial(job.settings, job.folder(Path(run)), job.identity, device=torch.device(device))
    last: EpochRow | None = None
    try:
        for event in events:
            if not isinstance(event, EpochRow):
                continue
            if event.epoch == job.settings.recipe.epochs or not math.isfinite(event.loss):
                last = event
            else:
                tune.report(_to_report(job, event))
    except (KeyboardInterrupt, SystemExit):
        # Ray stops a trial by raising SystemExit in `report`; closing the iterator records the early stop.
        events.close()  # type: ignore[attr-defined]
        raise
    except Exception:
        # Recorded in trial.json with its reason; the search goes on without this trial.
        tune.report({"id": job.id, "role": job.identity.role, "network": job.settings.network, "epoch": 0})
        return
    if last is not None:
        tune.report(_to_report(job, last))


def _to_report(job: Job, row: EpochRow) -> dict[str, Any]:
    identity = {"id": job.id, "role": job.identity.role, "network": job.settings.network}
    return identity | {"epochs": job.settings.recipe.epochs} | row.to_dict()
