"""`gcc-search analyze RUN`: reads a run directory, computes, and writes its analysis/ folder.

Works while the search still runs: trials under way are counted and not scored. Everything below analysis/ can be
deleted and made again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from gcc_search.analysis.best import Row, best_trials
from gcc_search.analysis.feasibility import read_question
from gcc_search.analysis.figures import render
from gcc_search.analysis.frontier import Frontier, find_frontier
from gcc_search.analysis.frontier_figure import draw_frontier
from gcc_search.analysis.listing import explain_columns, list_trials
from gcc_search.analysis.pairing import Pair, pair_with_baselines, waiting_trials
from gcc_search.analysis.table import LEGEND, best_table, to_csv
from gcc_search.analysis.tradeoff import NetworkTradeoff, accuracy_tradeoffs, count_statuses
from gcc_search.analysis.tradeoff_figure import AXIS, draw_tradeoff, say_spread
from gcc_search.atomic import write_atomically
from gcc_search.errors import ResultsError
from gcc_search.results.reader import Run, Trial, read_run
from gcc_search.results.schema import RunRecord, TrialRecord
from gcc_search.results.writer import write_json

TOLD_ROWS = 10


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What `analyze` found, as plain values.

    Args:
        counts: trials by status, whether scored or not.
        problems: one line per file that was refused.
        waiting: ids of trials left out because their baseline is still being trained.
        files: what was written, in the order a reader would open it.
    """

    run: RunRecord
    counts: dict[str, int]
    problems: tuple[str, ...]
    waiting: tuple[str, ...]
    frontier: Frontier
    tradeoffs: tuple[NetworkTradeoff, ...]
    rows: tuple[Row, ...]
    files: tuple[Path, ...]


def analyze(folder: Path) -> Analysis:
    """The run's frontier, accuracy tradeoffs and best trials, computed and written to `folder`/analysis.

    Raises:
        ResultsError: no run directory, no finished trial, or a scored trial without its baseline.
    """
    run = read_run(folder)
    records = [trial.record for trial in run.trials]
    _check_finished(folder, records, run.problems)
    pairs = pair_with_baselines(run)
    frontier = find_frontier(pairs, read_question(run.record))
    tradeoffs = accuracy_tradeoffs(pairs, records)
    rows = best_trials(pairs, frontier)
    contents = _draw(run.record, frontier, tradeoffs) | _tabulate(records, pairs, frontier, rows)
    return Analysis(
        run=run.record,
        counts=count_statuses(records),
        problems=(*run.problems, *_torn_tables(run)),
        waiting=waiting_trials(run),
        frontier=frontier,
        tradeoffs=tradeoffs,
        rows=rows,
        files=_write(folder / "analysis", contents, run.record, frontier, tradeoffs),
    )


def _check_finished(folder: Path, records: Sequence[TrialRecord], problems: Sequence[str]) -> None:
    if not any(record.status == "finished" for record in records):
        refused = f"; {len(problems)} refused, first: {problems[0]}" if problems else ""
        raise ResultsError(
            f"{folder}: must have a finished trial, got {say_counts(count_statuses(records))}{refused}; "
            "wait for the search, or start it again"
        )


def say_counts(counts: dict[str, int]) -> str:
    """`9 finished, 2 running`; `no trial` where there is none."""
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "no trial"


def _torn_tables(run: Run) -> list[str]:
    """Refused tables of finished trials and baselines. Scores come from trial.json and are used all the same."""
    finished = [t for t in (*run.baselines.values(), *run.trials) if t.record.status == "finished"]
    return [problem for trial in finished for problem in _table_problems(trial)]


def _table_problems(trial: Trial) -> list[str]:
    problems = []
    for read in (trial.epochs, trial.images):
        try:
            read()
        except ResultsError as error:
            problems.append(str(error))
    return problems


def _draw(record: RunRecord, frontier: Frontier, tradeoffs: Sequence[NetworkTradeoff]) -> dict[str, bytes]:
    title = f"Run {record.name}"
    told = f"run {record.name}, seed {record.seed}, made by: {record.command}, {json.dumps(record.versions)}"
    figures = {
        "frontier": render(lambda: draw_frontier(frontier, title=title), title=title, description=told),
        "tradeoff": render(lambda: draw_tradeoff(tradeoffs, title=title), title=title, description=told),
    }
    return {f"{name}.{suffix}": content for name, files in figures.items() for suffix, content in files.items()}


def _tabulate(
    records: Sequence[TrialRecord], pairs: Sequence[Pair], frontier: Frontier, rows: Sequence[Row]
) -> dict[str, bytes]:
    return {
        "best.csv": to_csv(_flatten(rows)),
        "trials.csv": to_csv(list_trials(records, pairs, frontier)),
        "columns.csv": to_csv(explain_columns()),
    }


def _flatten(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with a column `sampled.NAME` for each further parameter that the sampler chose."""
    names = sorted({name for row in rows for name in row.sampled})
    plain = [{key: value for key, value in asdict(row).items() if key != "sampled"} for row in rows]
    return [
        p | {f"sampled.{name}": row.sampled.get(name) for name in names} for p, row in zip(plain, rows, strict=True)
    ]


def _write(
    folder: Path,
    contents: dict[str, bytes],
    record: RunRecord,
    frontier: Frontier,
    tradeoffs: Sequence[NetworkTradeoff],
) -> tuple[Path, ...]:
    for name, content in contents.items():
        write_atomically(folder / name, content)
    origin = {"run": record.name, "seed": record.seed, "command": record.command, "versions": record.versions}
    write_json(folder / "frontier.json", {**origin, "frontier": asdict(frontier)})
    write_json(folder / "tradeoff.json", {**origin, "unit": AXIS, "networks": [asdict(item) for item in tradeoffs]})
    return tuple(folder / name for name in (*contents, "frontier.json", "tradeoff.json"))


def print_analysis(analysis: Analysis, console: Console) -> None:
    """What was read, the table, the tradeoffs, what was refused, and where the files are."""
    total = sum(analysis.counts.values())
    _say(console, f"{analysis.run.name}: trials: {total} ({say_counts(analysis.counts)})\n")
    console.print(best_table(analysis.rows, limit=TOLD_ROWS))
    _say(console, LEGEND)
    feasible = sum(row.rank is not None for row in analysis.rows)
    if feasible == 0:
        _say(console, f"no feasible trial: none kept {' and '.join(analysis.frontier.constraints)}")
    elif feasible > TOLD_ROWS:
        _say(console, f"... and {feasible - TOLD_ROWS} more feasible trials in best.csv")
    _say(console, f"\n{AXIS}:")
    for item in analysis.tradeoffs:
        collapsed = f"; with collapsed: {say_spread(item.spread_all)}" if item.collapsed else ""
        _say(console, f"  {item.network}: {say_spread(item.spread_finished)}{collapsed}")
    if analysis.waiting:
        _say(console, f"\nleft out until their baselines are trained: {', '.join(analysis.waiting)}")
    if analysis.problems:
        _say(console, f"\nrefused files: {len(analysis.problems)}")
    for problem in analysis.problems:
        _say(console, f"  {problem}")
    folder = analysis.files[0].parent
    _say(console, f"\nwrote {folder}: {', '.join(path.name for path in analysis.files)}")


def _say(console: Console, text: str) -> None:
    # Names come from the user: brackets in them are no markup, and a path is copied better unwrapped.
    console.print(text, markup=False, highlight=False, soft_wrap=True)
