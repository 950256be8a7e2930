"""What it costs to hand out trials: our driver beside bare Ray Tune, in turn, over trials that train nothing."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.many_running import measure_many_running
from benchmarks.one_search import KINDS, SPACE
from gcc_search.space import SearchSpace

# What is asked: no more than a tenth over bare Ray Tune.
GOAL = 1.1
TRIAL_MINUTES = 10
# Ray's own measure of itself: 10,000 trials of a second on 16 cores.
GATE_SLOTS, GATE_SECONDS = 16, 1.0
# Optuna's sampler takes a tenth of a second at 3,000 trials, and an hour for 10,000.
OPTUNA_TRIALS = 3000
# What one search came to: see `one_search.measure`.
Search = dict[str, Any]
# A report costs the difference between searches whose trials report so often more.
MORE_REPORTS, REPORTING_TRIALS = 20, 100


def measure_scheduling(*, sizes: Sequence[int], rounds: int, gate: int) -> dict[str, Any]:
    """The section of the results file, printed as well.

    Args:
        sizes: numbers of trials that do nothing; each is searched by each kind, `rounds` times in turn.
        gate: number of trials that sleep for a second, on 16 slots; 0: none.
    """
    console = Console(stderr=True)
    slots = psutil.cpu_count() or 1
    searched = []
    for trials in sizes:
        kinds = [kind for kind in KINDS if kind != "optuna" or trials <= OPTUNA_TRIALS]
        for number in range(rounds):
            # Every second round the other way round: what warms up or wears on meets each kind alike.
            searched += [_search(console, kind, trials, slots) for kind in kinds[:: -1 if number % 2 else 1]]
    gates = [_search(console, kind, gate, GATE_SLOTS, seconds=GATE_SECONDS) for kind in ("bare", "ours") if gate]
    reports = {kind: _cost_of_report(console, kind, slots) for kind in ("bare", "ours")}
    running = measure_many_running(SearchSpace.model_validate(SPACE | {"run_cap": 10_000}))
    summary = [_summary([one for one in searched if one["trials"] == trials]) for trials in sizes]
    if gates:
        summary.append(_summary(gates))
    _show(summary, running)
    print("a report:", ", ".join(f"{kind} {told:.1f} ms" for kind, told in reports.items()))
    return {
        "goal_ratio": GOAL,
        "summary": summary,
        "milliseconds_per_report": reports,
        "many_running_milliseconds": running,
        "searches": [*searched, *gates],
    }


def _search(console: Console, kind: str, trials: int, slots: int, *, seconds: float = 0, epochs: int = 2) -> Search:
    """In a process of its own, so that neither memory nor Ray is another's."""
    numbers = {"--trials": trials, "--slots": slots, "--seconds": seconds, "--epochs": epochs}
    options = [word for name, number in numbers.items() for word in (name, str(number))]
    command = [sys.executable, "-m", "benchmarks.one_search", kind, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: must end with 0, got {done.returncode}")
    found: Search = json.loads(done.stdout)
    told = f"{found['milliseconds_per_trial']:.1f} ms a trial, {found['cpu_milliseconds_per_trial']:.1f} of CPU"
    console.print(f"{kind}, {trials:,} trials, {slots} at a time: {told}, load {found['load_after'][0]:.1f}")
    return found


def _cost_of_report(console: Console, kind: str, slots: int) -> float:
    """Milliseconds of the driver's CPU for each epoch of a trial."""
    few = _search(console, kind, REPORTING_TRIALS, slots)
    many = _search(console, kind, REPORTING_TRIALS, slots, epochs=few["epochs"] + MORE_REPORTS)
    more: float = many["cpu_milliseconds_per_trial"] - few["cpu_milliseconds_per_trial"]
    return more / MORE_REPORTS


def _summary(searches: list[Search]) -> dict[str, Any]:
    """Medians over the rounds of searches of one size."""

    def median(kind: str, name: str) -> float | None:
        values = [search[name] for search in searches if search["kind"] == kind]
        return statistics.median(values) if values else None

    ours, bare = (median(kind, "milliseconds_per_trial") for kind in ("ours", "bare"))
    assert ours is not None, "ours and bare are always measured"
    assert bare is not None, "ours and bare are always measured"
    one = next(search for search in searches if search["kind"] == "ours")
    jobs = one["marks"][-1]["trials"]
    return {
        "trials": one["trials"],
        "slots": one["slots"],
        "trial_sleeps": one["trial_sleeps"],
        "milliseconds_per_trial": {kind: median(kind, "milliseconds_per_trial") for kind in KINDS},
        "cpu_milliseconds_per_trial": {kind: median(kind, "cpu_milliseconds_per_trial") for kind in KINDS},
        "ratio_to_bare": ours / bare,
        "meets_goal": ours / bare <= GOAL,
        "milliseconds_per_trial_by_tenth": {
            kind: _by_tenth(next(search for search in searches if search["kind"] == kind))
            for kind in KINDS
            if any(search["kind"] == kind for search in searches)
        },
        "our_parts_by_tenth": _parts_by_tenth(one),
        "worker_write_milliseconds_per_trial": one["worker_write_milliseconds_per_trial"],
        "run_bytes_per_trial": one["left"]["bytes"] / jobs,
        "run_disk_bytes_per_trial": one["left"]["disk_bytes"] / jobs,
        "study_bytes_per_trial": one["left"]["study_bytes"] / one["trials"],
        "driver_resident_bytes": {
            "start": one["resident_bytes_at_start"],
            "first_trial": one["marks"][0]["resident_bytes"],
            "last_trial": one["marks"][-1]["resident_bytes"],
        },
        "resume_seconds": one["resume_seconds"],
        "trials_per_second_at_most": 1e3 / _by_tenth(one)[-1],
        f"gpus_at_most_with_{TRIAL_MINUTES}_minute_trials": int(60 * TRIAL_MINUTES * 1e3 / _by_tenth(one)[-1]),
    }


def _by_tenth(search: Search) -> list[float]:
    """Milliseconds a trial in each tenth of a search: whether they grow with the trials done."""
    marks = search["marks"]
    return [1e3 * (b["seconds"] - a["seconds"]) / (b["trials"] - a["trials"]) for a, b in itertools.pairwise(marks)]


def _parts_by_tenth(search: Search) -> dict[str, list[float]]:
    marks = search["marks"]
    return {
        name: [
            (b["parts"][name] - a["parts"].get(name, 0.0)) / (b["trials"] - a["trials"])
            for a, b in itertools.pairwise(marks)
        ]
        for name in marks[-1]["parts"]
    }


def _show(summary: list[dict[str, Any]], running: list[dict[str, Any]]) -> None:
    console = Console(file=sys.stdout, width=160)
    table = Table("trials", "at a time", "bare Tune", "with OptunaSearch", "ours", "ours / bare", "last tenth", "goal")
    for row in summary:
        each = row["milliseconds_per_trial"]
        optuna = f"{each['optuna']:.1f} ms" if each["optuna"] else "-"
        size = f"{row['trials']:,}" + (f" of {row['trial_sleeps']:g} s" if row["trial_sleeps"] else "")
        last = f"{row['milliseconds_per_trial_by_tenth']['ours'][-1]:.1f} ms"
        costs = (f"{each['bare']:.1f} ms", optuna, f"{each['ours']:.1f} ms", f"{row['ratio_to_bare']:.2f}", last)
        table.add_row(size, str(row["slots"]), *costs, f"{'met' if row['meets_goal'] else 'missed'} ({GOAL:g})")
    console.print(table)
    table = Table("part of ours", *(f"{row['trials']:,} trials: first / last tenth" for row in summary))
    for name in summary[0]["our_parts_by_tenth"]:
        tenths = [row["our_parts_by_tenth"].get(name, [0.0]) for row in summary]
        table.add_row(name, *(f"{each[0]:.2f} / {each[-1]:.2f} ms" for each in tenths))
    console.print(table)
    table = Table("trials that run", "one ends, the next begins", "a frame", "a look for signs of life")
    for row in running:
        table.add_row(f"{row['running']:,}", *(f"{row[name]:.1f} ms" for name in ("turn", "frame", "look")))
    console.print(table)
