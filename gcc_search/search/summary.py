"""The last words of a search: how it went, what failed and why, what to type next; for people or for machines."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gcc_search.atomic import place_of
from gcc_search.results.schema import Status, TrialRecord
from gcc_search.saying import say
from gcc_search.search.judging import Outcome
from gcc_search.search.launch import SearchResult

# Of these `analyze` draws figures, also where none finished: where training fails is one of them.
SHOWN: tuple[Status, ...] = ("finished", "collapsed", "diverged")
# A reason that many share is told once, with so many of them by name.
TOLD_NAMES = 4


def print_summary(result: SearchResult, console: Console) -> None:
    statuses = result.statuses()
    counts = [f"{count} {status}" for status, count in sorted(statuses.items())]
    if result.num_interrupted:
        counts.append(f"{result.num_interrupted} interrupted")
    if result.num_left:
        counts.append(f"{result.num_left} not trained")
    ended = ", ".join(counts) or "none ended"
    feasible = sum(outcome.feasible for outcome in result.outcomes)
    say(console, f"{_how(result)}: trials {ended}; {feasible} feasible")
    if result.failed:
        _print_failures([outcome.record for outcome in result.failed], console)
    say(console, f"results: {place_of(result.run)}")
    if result.interrupted or result.gave_up or result.out_of_time:
        say(console, f"go on:   {result.resume_command}")
    if any(statuses[status] for status in SHOWN):
        say(console, f"next:    gcc-search analyze {shlex.quote(place_of(result.run))}")


def _how(result: SearchResult) -> str:
    if result.interrupted:
        return "stopped"
    if result.gave_up:
        return "given up"
    if result.out_of_time:
        return "time is up"
    return "ended early" if result.num_left else "done"


def to_json(result: SearchResult) -> str:
    """One JSON object: the run directory, counts by status, what failed and why, the frontier's trials, what to do."""
    return json.dumps(
        {
            "run": place_of(result.run.resolve()),
            "exit_code": result.exit_code,
            "trials": dict(sorted(result.statuses().items())) | {"interrupted": result.num_interrupted},
            "not_trained": result.num_left,
            "feasible": sum(outcome.feasible for outcome in result.outcomes),
            "failed": [_failure(outcome) for outcome in result.failed],
            "frontier": [outcome.job.id for outcome in result.frontier],
            "gave_up": result.gave_up,
            "out_of_time": result.out_of_time,
            "resume": result.resume_command,
        },
        indent=1,
    )


def _failure(outcome: Outcome) -> dict[str, object]:
    record = outcome.record
    return {"id": record.id, "role": record.role, "attempts": record.attempts, "reason": record.reason}


def _print_failures(failed: Sequence[TrialRecord], console: Console) -> None:
    """A table on a terminal, a line a reason elsewhere."""
    by_reason = sorted(failed, key=lambda record: record.reason or "")
    groups = [(reason, list(records)) for reason, records in groupby(by_reason, key=lambda record: record.reason)]
    groups.sort(key=lambda group: -len(group[1]))
    if console.is_terminal:
        table = Table("failed", "trials", "attempts", "why", box=None, padding=(0, 2, 0, 0))
        for reason, records in groups:
            # A reason may hold brackets, which rich would take for markup.
            table.add_row(str(len(records)), _names(records), _attempts(records), Text(reason or ""))
        console.print(table)
    else:
        for reason, records in groups:
            say(console, f"failed: {_names(records)} (attempts: {_attempts(records)}): {reason}")
    again = sum(record.would_fail_again for record in failed)
    if again < len(failed):
        say(console, "        to train one anew: remove its folder, then resume")
    if again:
        say(
            console,
            "        what diverges without alpha and beta does so again: change its recipe, then start a new run",
        )


def _names(records: Sequence[TrialRecord]) -> str:
    told = ", ".join(record.id for record in records[:TOLD_NAMES])
    return told if len(records) <= TOLD_NAMES else f"{told} and {len(records) - TOLD_NAMES} more"


def _attempts(records: Sequence[TrialRecord]) -> str:
    numbers = {record.attempts for record in records}
    return f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
