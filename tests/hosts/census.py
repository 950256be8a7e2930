"""Whether a search accounts for all it was asked for: each trial finished once, by one writer, and nothing is left."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from gcc_search.results.reader import Trial, read_run
from tests.faults.census import finished_files
from tests.hosts.machines import Host

ENDED = ("finished", "collapsed", "stopped", "diverged")
# Ray's workers notice within seconds that their driver is gone, those of a machine that comes back are ended with it.
SILENCE_SECONDS = 60.0
_BUSY = ("ray::Implicit", "ray::train", "-m gcc_search")

Files = dict[str, dict[str, bytes]]


def take_census(run: Path, transcript: str, *, asked: int, before: Files | None = None, failures: int = 0) -> list[str]:
    """What is wrong, a line each.

    Args:
        transcript: of all that drove this run.
        before: `finished_files` at a fault: what was finished then must be as it was.
        failures: how many attempts were lost, by the records.
    """
    found = read_run(run)
    problems = list(found.problems)
    if len(found.trials) != asked:
        problems.append(f"{asked} trials asked for, {len(found.trials)} there")
    everything = (*found.baselines.values(), *found.trials)
    problems += [line for trial in everything for line in _problems_of(trial)]
    told = sum(len(trial.record.failures) for trial in everything)
    if told != failures:
        problems.append(f"{failures} failures expected, records say {told}")
    problems += _ends_told(transcript, {trial.record.id for trial in found.trials})
    problems += _study(run / "study.db", asked)
    now = finished_files(run)
    problems += [
        f"{folder}: changed after it was finished" for folder, was in (before or {}).items() if now.get(folder) != was
    ]
    return problems


def _problems_of(trial: Trial) -> Iterator[str]:
    record = trial.record
    if record.status not in ENDED:
        yield f"{record.id}: {record.status}: {record.reason}"
    epochs = [row["epoch"] for row in trial.epochs(["epoch"]).to_pylist()]
    if epochs != list(range(1, record.epochs_done + 1)):
        yield f"{record.id}: epochs {epochs}"
    if (trial.folder / "checkpoint").exists() and record.status in ENDED:
        yield f"{record.id}: its checkpoint is left"


def _ends_told(transcript: str, ids: set[str]) -> Iterator[str]:
    """The driver tells of each trial's end once."""
    ends = Counter(re.findall(rf"^\S+ (\S+): (?:{'|'.join(ENDED)})\b", transcript, re.MULTILINE))
    yield from (f"{name}: its end was told {ends[name]} times" for name in sorted(ids) if ends[name] != 1)


def _study(database: Path, asked: int) -> Iterator[str]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        states = [state for (state,) in connection.execute("SELECT state FROM trials")]
    if len(states) != asked or not set(states) <= {"COMPLETE", "PRUNED"}:
        yield f"study.db: {asked} trials asked for, {states} there"


def wait_for_silence(hosts: Iterable[Host]) -> list[str]:
    """What of searches still runs on `hosts` after a while: drivers, workers; a line each."""
    until, hosts = time.monotonic() + SILENCE_SECONDS, list(hosts)
    while (left := [line for host in hosts for line in _busy(host)]) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def _busy(host: Host) -> Iterator[str]:
    for process in host.processes():
        try:
            words = " ".join(process.cmdline())
        except psutil.Error:
            # Gone meanwhile, or dead and not yet buried.
            continue
        if any(mark in words for mark in _BUSY):
            yield f"{host.name}: process {process.pid} is left: {words[:80]}"
