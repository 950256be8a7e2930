"""What a search left, counted against an undisturbed one: nothing lost, done twice or left lying about."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from gcc_search.results.reader import Run, read_run
from gcc_search.storage.scratch import SCRATCH

TIMING = ("train_seconds", "evaluation_seconds", "peak_memory_bytes")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What must not be: a line for each case.

    Args:
        lost: finished networks that are gone. twice: finished networks that were written to again.
        zombies: Optuna trials, records and processes that never end.
        changed: settings, rows, tables and networks that are not the undisturbed search's.
        left: files that the undisturbed search does not leave. failed: searches that ended badly or did not end.
    """

    lost: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    zombies: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """`kind: case`, for all kinds."""
        return [f"{item.name}: {line}" for item in fields(self) for line in getattr(self, item.name)]


def finished_files(run: Path) -> dict[str, dict[str, bytes]]:
    """The files of every finished trial, baseline and start network, by folder below `run`; not what a kill left."""
    if not (run / "run.json").exists():
        return {}
    found = read_run(run)
    finished = [t for t in (*found.baselines.values(), *found.trials) if t.record.status == "finished"]
    return {str(trial.folder.relative_to(run)): _contents(trial.folder) for trial in finished}


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.is_file()}


def take_census(
    undisturbed: Path,
    run: Path,
    *,
    seen: dict[str, dict[str, bytes]],
    processes: list[str],
    drivers: Sequence[int] = (),
) -> Faults:
    """`run`, which has ended, against `undisturbed`. `seen`: `finished_files` at each kill, the first look kept.

    Args:
        processes: those that are still there. drivers: process ids of all drivers, to find their scratch folders by.
    """
    now, expected = finished_files(run), read_run(undisturbed)
    found = read_run(run)
    everything = (*found.baselines.values(), *found.trials)
    running = [
        f"{t.record.id} is {t.record.status}" for t in everything if t.record.status in ("running", "interrupted")
    ]
    return Faults(
        lost=tuple(folder for folder in seen if folder not in now),
        twice=tuple(folder for folder, files in seen.items() if folder in now and now[folder] != files),
        zombies=(*running, *_unended_in_study(run), *processes),
        changed=tuple(_changed(expected, found)),
        left=(*sorted(set(_files(run)) - set(_files(undisturbed))), *_scratch_of(drivers)),
        failed=found.problems,
    )


def _scratch_of(drivers: Sequence[int]) -> list[str]:
    return [str(folder) for pid in drivers for folder in Path("/tmp").glob(f"{SCRATCH}{pid}-*")]


def _unended_in_study(run: Path) -> list[str]:
    with sqlite3.connect(f"file:{run / 'study.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT number, state FROM trials WHERE state NOT IN ('COMPLETE', 'PRUNED')").fetchall()
    return [f"the study's trial {number} is {state}" for number, state in rows]


def _changed(expected: Run, found: Run) -> list[str]:
    before, after = results_of(expected), results_of(found)
    missing = [f"{name} is not there" for name in before.keys() - after.keys()]
    more = [f"{name} is one too many" for name in after.keys() - before.keys()]
    parts = ("sampled", "epochs", "images", "heatmaps", "network")
    differing = [
        f"{name}: {part}"
        for name in before.keys() & after.keys()
        for part, ours, theirs in zip(parts, before[name], after[name], strict=True)
        if ours != theirs
    ]
    return [*missing, *more, *differing]


def results_of(run: Run) -> dict[str, tuple[object, ...]]:
    """By folder: what must not depend on interruptions: settings sampled, rows, tables, networks."""
    return {
        str(trial.folder.relative_to(run.folder)): (
            trial.record.sampled,
            trial.epochs().drop_columns(TIMING).to_pylist(),
            trial.images().to_pylist(),
            trial.heatmaps().to_pylist(),
            (trial.folder / "network.safetensors").read_bytes(),
        )
        for trial in (*run.baselines.values(), *run.trials)
    }


def _files(run: Path) -> list[str]:
    return [str(path.relative_to(run)) for path in run.rglob("*")]
