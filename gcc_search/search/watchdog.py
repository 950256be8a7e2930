"""Ends workers that hang, and says what became of those that died."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback

from gcc_search.search.jobs import folder_of
from gcc_search.search.retries import WORKER_DIED, Death
from gcc_search.storage.mirror import last_change

CHECK_SECONDS = 2.0
# Of the driver's time, at most so much goes into looking: a thousand records on a slow disk take a while.
LOOKING_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class _Sign:
    """When a trial's record last changed, by the clock of who wrote it, and since when (ours) that is known."""

    changed: int
    since: float


class Watchdog(Callback):
    """Ray tells it of every step. `on_death` hears why, right after the searcher has heard that.

    What it watches is the worker of a trial, not the trial: where one was stopped and never returns, the next one,
    which waits for that worker, shows no sign of life either.
    """

    def __init__(self, run: Path, on_death: Callable[[str, Death], None], *, max_silent_seconds: float) -> None:
        self._run, self._on_death, self._limit = run, on_death, max_silent_seconds
        self._signs: dict[str, _Sign] = {}
        self._ended: set[str] = set()
        self._due = time.monotonic() + CHECK_SECONDS
        self._kernel_kills = _count_kernel_kills()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if (began := time.monotonic()) < self._due:
            return
        watched = [trial for trial in trials if trial.status in ("PENDING", "RUNNING")]
        # Without an actor it waits for a process to start, which is Ray's to watch.
        self._signs = {
            trial.trial_id: self._look_at(trial) for trial in watched if trial.temporary_state.ray_actor is not None
        }
        for trial in watched:
            if trial.trial_id in self._signs and trial.trial_id not in self._ended:
                self._end_if_silent(trial)
        ended = time.monotonic()
        self._due = ended + pause_after(ended - began, limit=self._limit)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        # A report is a sign of life as well.
        self._signs.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._on_death(trial.trial_id, self._explain(trial))

    def _look_at(self, trial: Any) -> _Sign:
        known = self._signs.get(trial.trial_id)
        try:
            changed = last_change(folder_of(trial.config, self._run) / "trial.json")
        except OSError:
            # Not written yet, or its disk does not answer: no sign of life.
            changed = 0
        return known if known and known.changed == changed else _Sign(changed=changed, since=time.monotonic())

    def _end_if_silent(self, trial: Any) -> None:
        if time.monotonic() - self._signs[trial.trial_id].since > self._limit:
            self._ended.add(trial.trial_id)
            ray.kill(trial.temporary_state.ray_actor)

    def _explain(self, trial: Any) -> Death:
        if trial.trial_id in self._ended:
            minutes = f"{self._limit / 60:g} minutes"
            return Death(kind="crash", reason=f"its worker gave no sign of life for {minutes} and was ended")
        before, self._kernel_kills = self._kernel_kills, _count_kernel_kills()
        if self._kernel_kills > before:
            return Death(kind="memory", reason="out of memory: the kernel killed its worker")
        return _read_death(Path(trial.error_file))


def pause_after(seconds: float, *, limit: float) -> float:
    """Seconds until the next look, after one that took `seconds`: silence is noticed late by a quarter of its limit."""
    return max(CHECK_SECONDS, min(seconds / LOOKING_SHARE, limit / 4))


def _read_death(error_file: Path) -> Death:
    """From Ray's own words, which it keeps in a file."""
    words = error_file.read_text()
    full = next((line for line in words.splitlines() if "DiskFullError: " in line), None)
    if full is not None:
        return Death(kind="error", reason=full.split("DiskFullError: ")[1])
    for error in ("DiskError", "StorageError", "OccupiedError"):
        if (line := next((line for line in words.splitlines() if f"{error}: " in line), None)) is not None:
            return Death(kind="crash", reason=line.split(f"{error}: ")[1])
    if "node running low on memory" in words:
        return Death(kind="memory", reason="out of memory: Ray ended its worker before the machine ran out")
    if "its node has died" in words or "node was terminated" in words:
        return Death(kind="crash", reason="the machine of its worker was lost")
    if "temporarily unavailable" in words:
        # What Ray says first where a machine vanishes; it waits no longer.
        return Death(kind="crash", reason="its worker cannot be reached: its machine or the network to it was lost")
    return Death(kind="crash", reason=WORKER_DIED)


def _count_kernel_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory; 0 where it does not say."""
    vmstat = Path("/proc/vmstat")
    lines = vmstat.read_text().splitlines() if vmstat.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
