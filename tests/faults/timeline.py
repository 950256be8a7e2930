"""When what happens in a search, seen from outside by its run directory, and moments to kill it at drawn from that."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Victim = Literal["driver", "worker"]
POLL_SECONDS = 0.02
START_SHARE = 0.25
# A search that does nothing for so long hangs.
PATIENCE_SECONDS = 280.0


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that the run directory shows, `seconds` after the search's process began."""

    name: str
    phase: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When to kill what: `delay` seconds after `event`; event None is the beginning of a process, new or resuming."""

    victim: Victim
    event: str | None
    phase: str
    delay: float


BEGUN = Event(name="begun", phase="start-up", seconds=0.0)
RUN_WRITTEN = "run.json"


class Watch:
    """The names of what one process has done so far, in the run directory `run`: only what it wrote itself counts."""

    def __init__(self, run: Path) -> None:
        self._run, self._since = run, time.time_ns()
        self.began = time.monotonic()
        self._written: dict[Path, int] = {}
        self._known: dict[Path, tuple[Event, ...]] = {}

    def events(self) -> Iterator[Event]:
        """Each thing done, as it stands now; their `seconds` are those of the look."""
        if self._is_new(self._run / "run.json"):
            yield self._event(RUN_WRITTEN, "Ray's start-up")
        for path in (*self._run.glob("baselines/*/trial.json"), *self._run.glob("trials/*/trial.json")):
            if self._is_new(path):
                yield from self._of_record(path)

    def _is_new(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime_ns > self._since
        except OSError:
            return False

    def _event(self, name: str, phase: str) -> Event:
        return Event(name=name, phase=phase, seconds=time.monotonic() - self.began)

    def _of_record(self, path: Path) -> Iterator[Event]:
        try:
            record = json.loads(path.read_bytes())
        except OSError:
            return
        name = f"{path.parent.parent.name}/{path.parent.name}"
        what = {"start": "start network", "baseline": "baseline", "trial": "trial"}[record["role"]]
        yield self._event(f"{name} begun", what)
        for epoch in range(1, record["epochs_done"] + 1):
            last = epoch == SPACE_EPOCHS
            yield self._event(f"{name} epoch {epoch}", "final scoring" if last else what)
        if record["status"] == "finished":
            yield self._event(f"{name} ended", "between jobs")


SPACE_EPOCHS = 2


def observe(process: subprocess.Popen[bytes], run: Path) -> list[Event]:
    """What happened when, until `process` ended."""
    watch, seen = Watch(run), {BEGUN.name: BEGUN}
    while process.poll() is None:
        seen = {event.name: event for event in watch.events()} | seen
        time.sleep(POLL_SECONDS)
    assert process.returncode == 0, "the undisturbed search must end well"
    end = Event(name="closed", phase="closed", seconds=time.monotonic() - watch.began)
    events = sorted(seen.values(), key=lambda event: event.seconds)
    return [*events, end]


def draw_moments(events: Sequence[Event], *, count: int, victims: Sequence[Victim], rng: random.Random) -> list[Moment]:
    """`count` moments: a quarter of them spread over the start-up, the others over the rest of the search's life.

    Each lies in one of as many equal parts. A small search is start-up for the most part, a real one is not.
    """
    began = next(event.seconds for event in events if event.name not in (BEGUN.name, RUN_WRITTEN))
    early = max(1, round(count * START_SHARE))
    at = [(part + rng.random()) / early * began for part in range(early)]
    late = count - early
    at += [began + (part + rng.random()) / late * (events[-1].seconds - began) for part in range(late)]
    return [_moment(events, seconds, rng.choice(victims)) for seconds in at]


def _moment(events: Sequence[Event], at: float, victim: Victim) -> Moment:
    last = max((event for event in events if event.seconds <= at), key=lambda event: event.seconds)
    if last.name in (BEGUN.name, RUN_WRITTEN):
        # There is no worker yet, and a resuming process does not write run.json again.
        return Moment(victim="driver", event=None, phase=last.phase, delay=at)
    return Moment(victim=victim, event=last.name, phase=last.phase, delay=at - last.seconds)


def deal_out(
    moments: Sequence[Moment], events: Sequence[Event], *, per_life: int, rng: random.Random
) -> list[list[Moment]]:
    """The moments in lives of at most `per_life` kills: as they follow each other, those of start-ups anywhere."""
    order = {event.name: number for number, event in enumerate(events)}
    shuffled = list(moments)
    rng.shuffle(shuffled)
    num_lives = -(-len(shuffled) // per_life)
    lives = []
    for number in range(num_lives):
        mine = shuffled[number::num_lives]
        life = sorted((m for m in mine if m.event), key=lambda m: (order[m.event or ""], m.delay))
        for moment in (m for m in mine if m.event is None):
            # Not behind the others: a search that has ended has no start-up to be killed in.
            life.insert(rng.randint(0, max(0, len(life) - 1)), moment)
        lives.append(life)
    return lives


def wait_for(moment: Moment, process: subprocess.Popen[bytes], watch: Watch, order: dict[str, int]) -> bool:
    """True at the moment; False where `process` ended before it. What this process never does counts when passed."""
    waited_for = order[moment.event or BEGUN.name]
    while not _has_come(watch, waited_for, order):
        if process.poll() is not None:
            return False
        assert time.monotonic() - watch.began < PATIENCE_SECONDS, f"hangs before {moment}"
        time.sleep(POLL_SECONDS)
    try:
        process.wait(timeout=moment.delay)
    except subprocess.TimeoutExpired:
        return True
    return False


def _has_come(watch: Watch, waited_for: int, order: dict[str, int]) -> bool:
    return waited_for == 0 or any(order.get(event.name, -1) >= waited_for for event in watch.events())
