"""Searches that are killed again and again until they end, and what came of them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.faults.census import Faults, finished_files, take_census
from tests.faults.processes import Place, kill
from tests.faults.timeline import (
    PATIENCE_SECONDS,
    Event,
    Moment,
    Victim,
    Watch,
    deal_out,
    draw_moments,
    observe,
    wait_for,
)

VICTIMS: tuple[Victim, ...] = ("driver", "worker")
# Workers notice within seconds that their driver is gone.
SILENCE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A search that nobody disturbed: its run, and when what happened in it."""

    run: Path
    events: tuple[Event, ...]


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One that hit: whom, where in the search's life, how many seconds after the process began."""

    victim: Victim
    phase: str
    event: str | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Life:
    """One search from its first process to its end."""

    kills: tuple[Kill, ...]
    num_missed: int
    faults: Faults
    seconds: float


def run_undisturbed(folder: Path) -> Undisturbed:
    """A whole search, watched."""
    place = Place(folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    events = observe(place.start(), place.run)
    return Undisturbed(run=place.run, events=tuple(events))


def run_lives(undisturbed: Undisturbed, folder: Path, *, kills: int, per_life: int, seed: int) -> Iterator[Life]:
    """Searches until `kills` have hit, at moments drawn by `seed`; what a sound life left on disk is removed.

    A moment after the end of a life misses: as many are drawn again, by the next seed.
    """
    num_hit = num_lives = 0
    for again in range(kills):
        rng = random.Random(seed + 1000 * again)
        moments = draw_moments(undisturbed.events, count=kills - num_hit, victims=VICTIMS, rng=rng)
        for mine in deal_out(moments, undisturbed.events, per_life=per_life, rng=rng):
            life = live(undisturbed, folder / f"life-{num_lives}", mine)
            if not life.faults.lines():
                shutil.rmtree(folder / f"life-{num_lives}")
            num_hit, num_lives = num_hit + len(life.kills), num_lives + 1
            yield life
        if num_hit >= kills:
            return


def live(undisturbed: Undisturbed, folder: Path, moments: Sequence[Moment]) -> Life:
    """One search, killed at each of `moments` in turn and started again at once, until it ends."""
    folder.mkdir(parents=True)
    place, began = Place(folder=folder), time.monotonic()
    order = {event.name: number for number, event in enumerate(undisturbed.events)}
    kills: list[Kill] = []
    drivers: list[int] = []
    seen: dict[str, dict[str, bytes]] = {}
    process, watch = place.start(), Watch(place.run)
    for moment in moments:
        if not wait_for(moment, process, watch, order):
            break
        workers = _wait_for_workers(place, process) if moment.victim == "worker" else []
        if moment.victim == "worker" and not workers:
            break
        at = time.monotonic() - watch.began
        for worker in workers:
            kill(worker)
        if moment.victim == "driver":
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        phase = "a resume's start-up" if drivers and moment.event is None else moment.phase
        kills.append(Kill(victim=moment.victim, phase=phase, event=moment.event, seconds=round(at, 2)))
        seen = finished_files(place.run) | seen
        if moment.victim == "driver":
            drivers.append(process.pid)
            process, watch = place.start(), Watch(place.run)
    code = process.wait(timeout=PATIENCE_SECONDS)
    left = [f"process {process.pid} {process.name()}" for process in place.wait_for_silence(SILENCE_SECONDS)]
    return Life(
        kills=tuple(kills),
        num_missed=len(moments) - len(kills),
        faults=take_census(undisturbed.run, place.run, seen=seen, processes=left, drivers=[*drivers, process.pid])
        if code == 0
        else Faults(failed=(f"exit code {code}, see {place.log}",)),
        seconds=round(time.monotonic() - began, 1),
    )


def _wait_for_workers(place: Place, process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Those there are, or the next there will be; none where the search ends before."""
    while process.poll() is None:
        if workers := place.workers():
            return workers
    return []
