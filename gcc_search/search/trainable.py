"""What Ray calls in a worker process: one job, its rows reported as they come."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ray import tune

from gcc_search.atomic import as_told
from gcc_search.errors import DiskError, DiskFullError, GccSearchError, OccupiedError, StorageError
from gcc_search.footprint import CudaMeter, wait_until_released
from gcc_search.recording import record_trial
from gcc_search.results.schema import EpochRow
from gcc_search.search.jobs import Job
from gcc_search.search.lasting_thread import in_lasting_thread
from gcc_search.search.worker_memory import give_back_memory, set_modules_aside
from gcc_search.trial import Ended
from gcc_search.working_folder import working_folder


def train_job(
    config: dict[str, Any],
    *,
    run: str,
    device: str,
    threads: int,
    fingerprints: dict[int, str],
    num_processes: int = 1,
) -> None:
    """Trains `config`'s job in the run directory `run`, a folder or a URL. A failure is recorded in its trial.json.

    `fingerprints` are those of the images, by size, that the search began with. `num_processes` train the job together,
    on as many GPUs.

    The last epoch is reported after the test split is scored: Ray may end a trial inside a report, and nothing runs
    after that.

    Raises:
        Exception: whatever may have spoilt this process for the next job. Ray then puts another in its place.
    """
    job, where = Job.from_config(config), torch.device(device)
    surroundings = {"fingerprint": fingerprints[job.settings.recipe.image_size], "num_processes": num_processes}
    in_lasting_thread(functools.partial(_train, job, run, where, threads, surroundings))


def _train(job: Job, run: str, where: torch.device, threads: int, surroundings: dict[str, Any]) -> None:
    set_modules_aside()
    torch.set_num_threads(threads)
    if "memory" in job.failures and where.type == "cuda":
        # Nothing runs beside it, but what ran until just now may still be ending.
        wait_until_released(where, CudaMeter())
    identity = job.in_reports()

    def tell(line: str) -> None:
        # The driver does not know this machine's scratch.
        tune.report(identity | {"epoch": 0, "note": as_told(line)})

    place = job.folder(Path()).as_posix()
    try:
        with working_folder(run, place, job.settings, job.identity, tell) as folder:
            events = record_trial(
                job.settings,
                folder,
                job.identity,
                device=where,
                failures=job.failures,
                on_notice=tell,
                **surroundings,
            )
            _report(job, events, identity)
    finally:
        give_back_memory(where)


def _report(job: Job, events: Iterator[EpochRow | Ended], identity: dict[str, Any]) -> None:
    last: EpochRow | None = None
    try:
        for event in events:
            if not isinstance(event, EpochRow):
                continue
            if event.epoch == job.settings.recipe.epochs or not math.isfinite(event.loss):
                last = event
            else:
                tune.report(identity | event.to_dict())
    except (KeyboardInterrupt, SystemExit):
        # Ray stops a trial by raising SystemExit in `report`; closing the iterator records the early stop.
        events.close()  # type: ignore[attr-defined]
        raise
    except (DiskError, DiskFullError, OccupiedError, StorageError):
        # Its record may not say so: the search is told.
        raise
    except GccSearchError:
        # What a user can cause leaves the process as good as before; the search goes on without this trial.
        tune.report(identity | {"epoch": 0})
        return
    if last is not None:
        tune.report(identity | last.to_dict())
