"""The screen of a search: a live table on a terminal, a line an event elsewhere."""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass, field
from typing import Any

from ray.tune import Callback
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gcc_search.objectives import METRICS, RANKED
from gcc_search.saying import say
from gcc_search.search.frames import frame_seconds, write_frame
from gcc_search.search.job_queue import JobQueue
from gcc_search.search.jobs import Job
from gcc_search.search.judging import Outcome
from gcc_search.search.tally import Tally
from gcc_search.space import SearchSpace

FRONTIER_ROWS = 8
# Of the trials that run, as many as a terminal shows beside the frontier; a table of a thousand takes a core to draw.
RUNNING_ROWS = 24
# Of a table that is drawn elsewhere, on a terminal of unknown width.
FRAME_WIDTH = 110
# Shorter epochs get no line of their own where there is no terminal: the trial's end says enough.
TOLD_EPOCH_SECONDS = 20.0


@dataclass
class RunningJob:
    """A job in a worker: since when, and its last epoch's row."""

    job: Job
    since: float
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """How much of its epochs is done, in [0, 1]."""
        return float(self.row.get("epoch", 0)) / self.job.settings.recipe.epochs


class SearchScreen(Callback):
    """Ray tells it what happens; it keeps what to show. Use as a context manager around the search."""

    def __init__(self, space: SearchSpace, queue: JobQueue, console: Console, *, slots: int) -> None:
        self._space, self._queue, self._console, self._slots = space, queue, console, slots
        self._running: dict[str, RunningJob] = {}
        self._started = time.monotonic()
        # What an earlier process had trained is told in one line when it is recalled.
        self._told = len(queue.outcomes)
        self._tally = Tally(space)
        self._tally.add(queue.outcomes)
        self._frame_seconds, self._frame_sent = frame_seconds(), -math.inf
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2, transient=True)

    def __enter__(self) -> SearchScreen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    # Ray's side.

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = Job.from_config(trial.config)
        self._running[trial.trial_id] = RunningJob(job=job, since=time.monotonic())
        self._say(
            f"{job.id}: started{_told_settings(job)}" + (f", try {len(job.failures) + 1}" if job.failures else "")
        )

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if trial.trial_id not in self._running:
            return
        item = self._running[trial.trial_id]
        if "note" in result:
            self.tell(f"{item.job.id}: {result['note']}")
            return
        item.row = result
        if result.get("train_seconds", 0) > TOLD_EPOCH_SECONDS:
            accuracy, corrected = result.get("accuracy_points"), result.get("corrected_consistency")
            measured = f"accuracy {_number(accuracy, 1)}, C* {_number(corrected, 3)}"
            self._say(f"{item.job.id}: epoch {result['epoch']}/{item.job.settings.recipe.epochs}, {measured}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for outcome in self._queue.outcomes[self._told :]:
            self._tally.add([outcome])
            self._say(f"{outcome.job.id}: {_told_outcome(outcome)}  [{self._counts()}]")
        self._told = len(self._queue.outcomes)
        self._send_frame()

    def _send_frame(self) -> None:
        """The table as a line, for one who watches from elsewhere."""
        now = time.monotonic()
        if self._frame_seconds is None or now - self._frame_sent < self._frame_seconds:
            return
        self._frame_sent = now
        drawn = Console(file=io.StringIO(), force_terminal=True, width=FRAME_WIDTH)
        drawn.print(self.render())
        print(write_frame(drawn.file.getvalue()), flush=True)  # type: ignore[attr-defined]

    # What is shown.

    def render(self) -> RenderableType:
        return Group(self._header(), Text(), self._running_table(), Text(), self._frontier_table())

    def tell(self, line: str) -> None:
        """A line that stays: above the live table on a terminal, among the others elsewhere."""
        say(self._console, f"{_clock(time.monotonic() - self._started)} {line}")

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self.tell(line)

    def _counts(self) -> str:
        left = self.seconds_left()
        tail = "" if left is None else f", about {_clock(left)} left"
        return f"{self._queue.num_ended}/{self._queue.num_trials} trials{tail}"

    def seconds_left(self) -> float | None:
        """Trials still to do at the mean time of those done, spread over the slots; None before the first has ended."""
        tally = self._tally
        if not (finished := tally.statuses["finished"]):
            return None
        to_do = self._queue.num_trials - self._queue.num_ended - self._trials_under_way()
        return max(0.0, to_do) * tally.finished_seconds / finished / self._slots

    def _trials_under_way(self) -> float:
        """Running trials as a number of whole ones."""
        return sum(item.share for item in self._running.values() if item.job.is_trial)

    def _header(self) -> RenderableType:
        statuses = sorted(self._tally.statuses.items())
        ended = ", ".join(f"{count} {status}" for status, count in statuses) or "none ended yet"
        so_far, feasible = _clock(time.monotonic() - self._started), self._tally.num_feasible
        text = Text.assemble(
            (f"{self._space.name}  ", "bold"), f"{self._counts()}   {so_far} so far   {ended}; {feasible} feasible"
        )
        bar = ProgressBar(total=self._queue.num_trials, completed=self._queue.num_ended + self._trials_under_way())
        return Group(text, bar)

    def _running_table(self) -> Table:
        table = Table(title="running", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for name in ("trial", "settings", "epoch", "", "accuracy", "C*", "Gini", "since"):
            table.add_column(name, justify="left" if name in ("trial", "settings") else "right", no_wrap=True)
        running = list(self._running.values())
        for item in running[:RUNNING_ROWS]:
            table.add_row(
                _told_job(item.job),
                _told_settings(item.job).removeprefix(" with "),
                f"{item.row.get('epoch', 0)}/{item.job.settings.recipe.epochs}",
                ProgressBar(total=1, completed=item.share, width=12),
                _number(item.row.get("accuracy_points"), 1),
                _number(item.row.get("corrected_consistency"), 3),
                _number(item.row.get("gini"), 3),
                _clock(time.monotonic() - item.since),
            )
        if len(running) > RUNNING_ROWS:
            table.add_row(f"and {len(running) - RUNNING_ROWS} more")
        return table

    def _frontier_table(self) -> Table:
        asked = [metric.name for metric in self._space.metrics]
        names = list(dict.fromkeys((*asked, *RANKED)))
        table = Table(
            title="frontier of the feasible (validation)", title_justify="left", box=None, padding=(0, 2, 0, 0)
        )
        for name in ("trial", "settings", "accuracy", "baseline", *(n for n in names if n != "accuracy")):
            table.add_column(name, justify="left" if name in ("trial", "settings") else "right", no_wrap=True)
        for outcome in self._tally.frontier[:FRONTIER_ROWS]:
            found = outcome.record.validation or {}
            of_baseline = (outcome.baseline and outcome.baseline.validation) or {}
            measured = (_number(found.get(METRICS[name].column), 3) for name in names if name != "accuracy")
            table.add_row(
                outcome.job.id,
                _told_settings(outcome.job).removeprefix(" with "),
                _number(found.get("accuracy_points"), 1),
                _number(of_baseline.get("accuracy_points"), 1),
                *measured,
            )
        return table


def _told_job(job: Job) -> str:
    role = "" if job.is_trial else f"{job.identity.role} "
    return f"{role}{job.id}" + (f" (try {len(job.failures) + 1})" if job.failures else "")


def _told_settings(job: Job) -> str:
    if not job.is_trial:
        return ""
    return " with " + " ".join(f"{name} {_short(value)}" for name, value in job.identity.sampled.items())


def _told_outcome(outcome: Outcome) -> str:
    record = outcome.record
    if record.status != "finished" or record.validation is None:
        return f"{record.status}: {record.reason}"
    values = record.validation
    told = f"finished, accuracy {_number(values['accuracy_points'], 1)}"
    if outcome.baseline and outcome.baseline.validation:
        told += f" (baseline {_number(outcome.baseline.validation['accuracy_points'], 1)})"
    told += f", C* {_number(values['corrected_consistency'], 3)}, Gini {_number(values['gini'], 3)}"
    return told + (", feasible" if outcome.feasible else ", infeasible" if outcome.job.is_trial else "")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
