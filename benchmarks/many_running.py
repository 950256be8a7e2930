"""What our driver does for a trial, a look and a frame while a thousand trials run: its own parts, without Ray."""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from benchmarks.no_work import write_record
from gcc_search.patience import UNHEARD
from gcc_search.search.job_queue import JobQueue
from gcc_search.search.jobs import Job, JobMaker
from gcc_search.search.progress import SearchScreen
from gcc_search.search.study import NetworkStudy
from gcc_search.search.study_copy import open_own_storage
from gcc_search.search.watchdog import Watchdog
from gcc_search.space import SearchSpace

COUNTS = (16, 100, 1000)
ROUNDS = 20


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians, in milliseconds.

    Args:
        running: trials under way.
        turn: one trial's end is taken in and the next one is handed out; by it a slot waits.
        frame: the table is drawn, twice a second on a terminal, every ten seconds for one who follows from elsewhere.
        look: for signs of life, every two seconds or so, on the disk of the temporary folder.
    """

    running: int
    turn: float
    frame: float
    look: float


def measure_many_running(space: SearchSpace) -> list[dict[str, Any]]:
    """A row for each of `COUNTS`. `space`'s trials have one network and a baseline, and are not trained."""
    return [asdict(_measure(space, count)) for count in COUNTS]


def _measure(space: SearchSpace, running: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="gcc-search-bench-") as folder:
        run = Path(folder)
        (network,) = space.networks
        study = NetworkStudy(
            space, network, open_own_storage(run / "study.db"), cap=2 * (running + ROUNDS), tell=UNHEARD.tell
        )
        fingerprint = {space.recipe.image_size: "made-up"}
        queue = JobQueue(
            space, run, JobMaker(space=space, fingerprints=fingerprint), {network: study}, UNHEARD, slots=1
        )
        console = Console(file=io.StringIO(), width=120, height=50)
        screen = SearchScreen(space, queue, console, slots=running)
        watchdog = Watchdog(run, lambda *_: None, max_silent_seconds=1800)
        # The first is the baseline.
        asked = 0
        _begin(queue, screen, run, asked)
        queue.on_trial_complete("0")
        while len(queue.running) < running:
            asked += 1
            _begin(queue, screen, run, asked)
        turns = [_turn(queue, screen, run, asked, number) for number in range(1, ROUNDS + 1)]
        trials = [_as_ray_has_it(job) for job in queue.running]
        return Row(
            running=running,
            turn=statistics.median(turns),
            frame=_milliseconds(lambda: console.print(screen.render())),
            look=_milliseconds(lambda: _look(watchdog, trials)),
        )


def _begin(queue: JobQueue, screen: SearchScreen, run: Path, number: int) -> None:
    config = queue.suggest(str(number))
    assert isinstance(config, dict), "there is a job as long as the cap allows"
    write_record(Job.from_config(config), run, "made-up")
    screen.on_trial_start(0, [], SimpleNamespace(trial_id=str(number), config=config))


def _turn(queue: JobQueue, screen: SearchScreen, run: Path, asked: int, number: int) -> float:
    began = time.perf_counter()
    queue.on_trial_complete(str(number))
    config = queue.suggest(str(asked + number))
    taken = time.perf_counter() - began
    assert isinstance(config, dict), "there is a job as long as the cap allows"
    write_record(Job.from_config(config), run, "made-up")
    return 1e3 * taken


def _as_ray_has_it(job: Job) -> Any:
    state = SimpleNamespace(ray_actor=object())
    return SimpleNamespace(trial_id=job.id, status="RUNNING", config=job.to_config(), temporary_state=state)


def _look(watchdog: Watchdog, trials: list[Any]) -> None:
    watchdog._due = 0.0
    watchdog.on_step_end(0, trials)


def _milliseconds(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)
