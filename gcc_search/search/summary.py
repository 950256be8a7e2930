"""The last words of a search: how it went, where the results are, what to type next."""

from __future__ import annotations

from rich.console import Console

from gcc_search.preparation import say
from gcc_search.search.launch import SearchResult

TOLD_FAILURES = 5


def print_summary(result: SearchResult, console: Console) -> None:
    statuses = result.statuses()
    counts = [f"{count} {status}" for status, count in sorted(statuses.items())]
    if result.num_interrupted:
        counts.append(f"{result.num_interrupted} interrupted")
    ended = ", ".join(counts) or "none ended"
    feasible = sum(outcome.feasible for outcome in result.outcomes)
    say(console, f"{'stopped' if result.interrupted else 'done'}: trials {ended}; {feasible} feasible")
    failed = [outcome.record for outcome in result.outcomes if outcome.record.status == "failed"]
    for record in failed[:TOLD_FAILURES]:
        say(console, f"  {record.id} failed: {record.reason}")
    if len(failed) > TOLD_FAILURES:
        say(console, f"  ... and {len(failed) - TOLD_FAILURES} more, see {result.run}/trials/*/trial.json")
    say(console, f"results: {result.run}")
    if result.interrupted:
        say(console, f"go on:   gcc-search resume {result.run}")
    if statuses["finished"]:
        say(console, f"next:    gcc-search analyze {result.run}")
