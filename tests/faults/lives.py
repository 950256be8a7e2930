"""Searches that are killed again and again until they end, and what came of them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """Searches with `kills` moments in all, drawn by `seed`; what a sound life left on disk is removed."""
    rng = random.Random(seed)
    moments = draw_moments(undisturbed.events, count=kills, victims=VICTIMS, rng=rng)
    for number, mine in enumerate(deal_out(moments, undisturbed.events, per_life=per_life, rng=rng)):
        life = live(undisturbed, folder / f"life-{number}", mine)
        if not life.faults.lines():
            shutil.rmtree(folder / f"life-{number}")
        yield life


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
        at = time.monotonic() - watch.began
        if moment.victim == "worker":
            for worker in place.workers():
                kill(worker)
        else:
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
