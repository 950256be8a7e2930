"""One search from a space file to finished trials."""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ray import tune
from ray.tune import TuneError
from rich.console import Console

from gcc_search.atomic import place_of, remove_leftovers, require_room
from gcc_search.errors import DiskError, DiskFullError, OccupiedError, ResultsError, StorageError
from gcc_search.footprint import MemoryMeter
from gcc_search.identity import package_versions
from gcc_search.occupancy import only_writer
from gcc_search.patience import Contact
from gcc_search.preparation import describe_images
from gcc_search.results.reader import read_run, read_run_record, read_trial
from gcc_search.results.schema import RunRecord, Status
from gcc_search.results.writer import write_run, write_trial
from gcc_search.saying import say
from gcc_search.search.bucket_run import ClaimWatch, StudySender, check_silence, fetch_record, send_study
from gcc_search.search.cluster import local_ray
from gcc_search.search.frontier import find_frontier
from gcc_search.search.job_queue import ROOM_BYTES, JobQueue
from gcc_search.search.judging import Outcome
from gcc_search.search.lock import only_driver
from gcc_search.search.measuring import CUDA, pack_trials
from gcc_search.search.mishaps import mishap_in
from gcc_search.search.progress import SearchScreen
from gcc_search.search.readiness import Prepared
from gcc_search.search.recall import make_queue, make_scheduler, recall
from gcc_search.search.scheduler import SuccessiveHalving
from gcc_search.search.stopping import ends_when_asked, heeds_signals
from gcc_search.search.trainable import train_job
from gcc_search.search.unsaid import Unsaid
from gcc_search.search.watchdog import Watchdog
from gcc_search.storage.scratch import remove_stale_scratch, scratch_parent

# Of the 15 seconds in which a search ends that is asked to: what Ray and the sending of the study leave.
LETTING_GO_SECONDS = 5.0
# What Ray calls in a worker, as `trainable.train_job` has it.
TrainJob = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """How a search ended.

    Args:
        num_left: trials that neither ended nor were interrupted: without a baseline that finished, or time.
        frontier: as `find_frontier` has it.
        interrupted: by the user. gave_up: after `max_failed_trials`, or ten attempts in a row on unfit machines.
        out_of_time: by `max_hours`.
        resume_command: what goes on with it.
    """

    run: Path
    num_left: int
    outcomes: tuple[Outcome, ...]
    frontier: tuple[Outcome, ...]
    num_interrupted: int
    interrupted: bool
    gave_up: bool
    out_of_time: bool
    resume_command: str

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Trials that failed, and baselines and start networks that did not finish."""
        return tuple(outcome for outcome in self.outcomes if outcome.has_failed)

    def statuses(self) -> Counter[str]:
        """How the trials (not the baselines) ended."""
        return Counter(outcome.record.status for outcome in self.outcomes if outcome.job.is_trial)

    @property
    def exit_code(self) -> int:
        """0: all that was begun ended as it should; 2: some failed; 130: stopped by the user."""
        if self.interrupted:
            return 130
        return 2 if self.failed or self.gave_up else 0


def run_search(
    prepared: Prepared, console: Console, *, job: TrainJob = train_job, meter: MemoryMeter = CUDA
) -> SearchResult:
    """Trains baselines and trials; every one of them leaves its directory.

    Ctrl-C ends it within seconds: what was running is recorded as interrupted.

    Raises:
        DiskFullError: the disk is full at the start, or for longer than `patiently` waits.
        DiskError: the disk fails. SpaceError: the database of --storage refuses at the start.
        StorageError: the bucket it goes to refuses, or does not answer for too long.
        ResourceError: Ray did not start, or no trial fits on a GPU.
        ResultsError: another process runs this search.
    """
    run = prepared.run
    check_silence(run, prepared.space)
    run.mkdir(parents=True, exist_ok=True)
    last_words = f"gcc-search: stopped by force; go on: {prepared.resume_command}"
    with only_driver(run), ends_when_asked(last_words), _tells_how_to_go_on(prepared, console):
        _clear(run)
        require_room(run, ROOM_BYTES)
        if (run / "run.json").exists():
            _follow(prepared)
            queue, scheduler = recall(prepared, read_run(run), console)
        else:
            prepared = _packed(prepared, console, meter)
            _write_run(prepared)
            queue, scheduler = make_queue(prepared, console), make_scheduler(prepared.space, run)
        interrupted = False
        try:
            # A search that has ended needs no Ray to say so.
            if not queue.is_done:
                _tune(_packed(prepared, console, meter), queue, scheduler, console, job)
        except KeyboardInterrupt:
            interrupted = True
        except (DiskError, DiskFullError, StorageError, TuneError, OSError) as error:
            if (mishap := mishap_in(error, scratch_parent())) is None:
                raise
            raise type(mishap)(f"{mishap}, then: {prepared.resume_command}") from None
        finally:
            num_interrupted = _close_running(run, queue, console)
            send_study(run, functools.partial(say, console))
    return SearchResult(
        run=run,
        num_left=queue.num_trials - queue.num_ended - num_interrupted,
        outcomes=tuple(queue.all_outcomes()),
        frontier=tuple(find_frontier(prepared.space, queue.outcomes)),
        num_interrupted=num_interrupted,
        interrupted=interrupted,
        gave_up=queue.gives_up,
        out_of_time=queue.is_out_of_time and not interrupted,
        resume_command=prepared.resume_command,
    )


@contextlib.contextmanager
def _tells_how_to_go_on(prepared: Prepared, console: Console) -> Iterator[None]:
    """Where the body is stopped before anything was trained, or once more while it ends."""
    try:
        yield
    except KeyboardInterrupt:
        if (prepared.run / "run.json").exists():
            say(console, f"go on:   {prepared.resume_command}")
        raise


def _packed(prepared: Prepared, console: Console, meter: MemoryMeter) -> Prepared:
    """With as many trials on each GPU as fit, told in a line; run.json keeps what was measured."""
    if prepared.packing is not None:
        return prepared
    record = read_run_record(prepared.run) if (prepared.run / "run.json").exists() else None
    packed = pack_trials(prepared, console, known=record.packing if record else None, meter=meter)
    if packed.packing is not None:
        say(console, packed.packing.told())
        if record is not None and record.packing != (content := packed.packing.to_dict()):
            write_run(prepared.run, replace(record, packing=content))
    return packed


def _clear(run: Path) -> None:
    """Waits for the workers of a driver that was killed, then removes what the kill left half-written."""
    for folder in run.glob("*/*/"):
        with only_writer(folder):
            pass
    remove_leftovers(run)
    remove_stale_scratch()


def _tune(
    prepared: Prepared, queue: JobQueue, scheduler: SuccessiveHalving | None, console: Console, job: TrainJob
) -> None:
    last_words = f"go on: {prepared.resume_command}"
    with (
        heeds_signals() as reminder,
        local_ray(prepared.machines, last_words, starting=reminder.afterwards()) as scratch,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        space, machines, run = prepared.space, prepared.machines, prepared.run.resolve()
        watchdog = Watchdog(run, queue.on_death, max_silent_seconds=60 * space.max_silent_minutes)
        trainable = tune.with_parameters(
            job,
            run=place_of(run),
            device="cuda" if machines.num_gpus else "cpu",
            threads=max(1, int(machines.cpus_per_trial)),
            num_processes=max(1, int(machines.gpus_per_trial)),
            fingerprints={size: data.fingerprint for size, data in prepared.datasets.items()},
        )
        with SearchScreen(space, queue, console, slots=machines.slots) as screen:
            queue.contact = Contact(tell=screen.tell)
            if machines.num_missing_gpus:
                screen.tell(f"waits for machines with {machines.num_missing_gpus} more GPUs; trials start as they join")
            # Ray logs each failure in dozens of lines; ours says it in one.
            logging.disable(logging.CRITICAL)
            try:
                tune.run(
                    trainable,
                    name="search",
                    storage_path=str(scratch / "tune"),
                    resources_per_trial={"cpu": machines.cpus_per_trial, "gpu": machines.gpus_per_trial},
                    num_samples=-1,
                    search_alg=queue,
                    scheduler=scheduler,
                    max_concurrent_trials=machines.slots,
                    callbacks=[reminder, ClaimWatch(run), watchdog, screen, StudySender(run), Unsaid()],
                    verbose=0,
                    reuse_actors=True,
                    raise_on_failed_trial=False,
                )
            finally:
                logging.disable(logging.NOTSET)


def _write_run(prepared: Prepared) -> None:
    record = RunRecord(
        name=prepared.space.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=prepared.options.command,
        space=prepared.space.model_dump(mode="json"),
        seed=prepared.space.seed,
        data=[describe_images(size, data) for size, data in prepared.datasets.items()],
        packing=prepared.packing.to_dict() if prepared.packing else None,
        versions=package_versions(prepared.space.networks) | {name: version(name) for name in ("ray", "optuna")},
        host=socket.gethostname(),
    )
    write_run(prepared.run, record)


def _follow(prepared: Prepared) -> None:
    """Where the images have moved, or more trials are asked for, run.json says so from now on.

    `reopen_search` has seen that the images are the same.
    """
    record, space = read_run(prepared.run).record, prepared.space
    root = record.space["data"]["root"] if space.data.root is None else str(space.data.root)
    data = record.space["data"] | {"root": root}
    asked = record.space | {"data": data, "run_cap": space.run_cap}
    if asked != record.space:
        write_run(prepared.run, replace(record, space=asked))


def _close_running(run: Path, queue: JobQueue, console: Console) -> int:
    """Records what was running as interrupted, and counts the trials of it."""
    closed = 0
    _await_workers([job.folder(run) for job in queue.running])
    for job in queue.running:
        was_running = _close_record(job.folder(run), "interrupted", "the search was stopped", console)
        closed += was_running and job.is_trial
    for outcome in queue.all_outcomes():
        if outcome.record.status in ("stopped", "failed"):
            # Its worker was ended before it could say so itself, or lived on after it was given up.
            _close_record(outcome.job.folder(run), outcome.record.status, outcome.record.reason, console)
    return closed


def _await_workers(folders: Sequence[Path]) -> None:
    """Until nobody writes there, or for so long: workers of a cluster hear later than we that the search is over."""
    until = time.monotonic() + LETTING_GO_SECONDS
    for folder in folders:
        with (
            contextlib.suppress(DiskError, OccupiedError),
            only_writer(folder, patience_seconds=until - time.monotonic()),
        ):
            pass


def _close_record(folder: Path, status: Status, reason: str | None, console: Console) -> bool:
    """Whether the trial's record said `running` until now."""
    try:
        fetch_record(folder)
        record = read_trial(folder).record
    except StorageError as error:
        say(console, f"{folder.name}: not recorded as {status}: {error}")
        return True
    except ResultsError:
        # Killed before its first word: there is nothing to close.
        return False
    if record.status != "running":
        return False
    try:
        write_trial(folder, replace(record, status=status, reason=reason))
    except (DiskError, DiskFullError, StorageError) as error:
        # It says `running`, and `resume` goes on with it all the same.
        say(console, f"{record.id}: not recorded as {status}: {error}")
    return True
