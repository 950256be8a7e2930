"""What `gcc-search analyze` says on the screen, within 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from gcc_search.analysis.comparison import RULE
from gcc_search.analysis.comparison_table import (
    KEY,
    SEEDS_HEADING,
    comparison_heading,
    comparison_table,
    say_below,
    say_loss,
    say_seeds,
)
from gcc_search.analysis.findings import Findings, say_counts
from gcc_search.analysis.frontier import say_none_feasible, say_ranking
from gcc_search.analysis.given_up import say_collapse
from gcc_search.analysis.importance import Importance
from gcc_search.analysis.pairing import REDO
from gcc_search.analysis.parameters import Parameter
from gcc_search.analysis.several import trial_directory
from gcc_search.analysis.table import LEGEND, WIDTH, best_table
from gcc_search.analysis.telling import tell_bands, tell_boundary, tell_paper, tell_table_1_of_paper
from gcc_search.analysis.tradeoff import NetworkTradeoff
from gcc_search.analysis.tradeoff_figure import AXIS, say_given_up, say_spread
from gcc_search.saying import say

TOLD_ROWS = 10
IMPORTANCE_HEADING = (
    "share of a metric's ranks that a parameter explains alone, where that is least likely by chance\n"
    "(p: how often permutations give any parameter a share as unlikely; each line on its own):"
)


def print_findings(findings: Findings, files: Sequence[Path], console: Console) -> None:
    """What was read, the best trials, Table 1, the tradeoffs, what was refused, and where the files are."""
    _print_best(findings, console)
    _print_comparisons(findings, console)
    say(console, f"\n{AXIS}:")
    for item in findings.tradeoffs:
        _print_tradeoff(item, console)
    _print_knee(findings, console)
    _say_all(tell_bands(findings.bands), console)
    _say_all(tell_boundary(findings.boundary), console, heading="\nwhere training fails")
    _print_series(findings, console)
    _print_importances(findings.importances, console)
    told = [f"  {line}" for line in tell_paper(findings.paper)]
    _say_all(told, console, heading="\ncompared with the paper:")
    _print_problems(findings, console)
    say(console, f"\nwrote {files[0].parent}: {', '.join(path.name for path in files)}")


def _print_best(findings: Findings, console: Console) -> None:
    total = sum(findings.counts.values())
    say(console, f"{findings.run.name}: trials: {total} ({say_counts(findings.counts)})\n")
    if findings.rows:
        console.print(best_table(findings.rows, limit=TOLD_ROWS))
        say(console, LEGEND)
    say(
        console,
        f"frontier: no feasible trial is better, on the validation split, in\n  {say_ranking(findings.frontier)}",
    )
    feasible = sum(row.rank is not None for row in findings.rows)
    if feasible == 0:
        say(console, say_none_feasible(findings.frontier))
    elif feasible > TOLD_ROWS:
        say(console, f"... and {feasible - TOLD_ROWS} more feasible trials in best.csv")


def _print_comparisons(findings: Findings, console: Console) -> None:
    if findings.comparisons:
        say(console, f"\nbaseline against ours\n{RULE}\n{KEY}")
    for item in findings.comparisons:
        say(console, f"\n{comparison_heading(item)}")
        console.print(comparison_table(item))
        _say_all(say_below(item), console)
        say(console, f"train ours again: {findings.origins[item.trial].command}")
        _say_all(tell_table_1_of_paper(findings.paper, item), console)
        if item.seeds:
            say(console, SEEDS_HEADING)
        for spread in item.seeds:
            say(console, f"  {say_seeds(spread)}")


def _say_all(lines: Sequence[str], console: Console, *, heading: str | None = None) -> None:
    for line in ([heading] if heading and lines else []) + [*lines]:
        say(console, line)


def _print_tradeoff(item: NetworkTradeoff, console: Console) -> None:
    collapsed = f"; with collapsed: {say_spread(item.spread_all)}" if item.collapsed else ""
    say(console, f"  {item.network}: {say_spread(item.spread_finished)}{collapsed}")
    if item.given_up:
        say(console, f"    {say_given_up(item)}")
    if item.num_stopped:
        say(console, f"    without {item.num_stopped} stopped early, which have no test accuracy")


def _print_knee(findings: Findings, console: Console) -> None:
    rows = {row.trial: row for row in findings.rows}
    row = rows.get(findings.growth.knee or "")
    if row is None:
        say(console, "\nno knee of the frontier of C* and Gini: fewer than three trials on it, or none above its chord")
        return
    say(console, f"\nknee of the frontier of C* and Gini: {trial_directory(row.trial)} ({say_loss(row)})")
    say(console, f"  train it again: {findings.origins[row.trial].command}")


def _print_series(findings: Findings, console: Console) -> None:
    """Rows as in the paper's Table 2, the first ten; effects.csv has all of them."""
    rows = [(effect.parameter, series) for effect in findings.effects for series in effect.series]
    records = {record.id: record for record in findings.records}
    if rows:
        say(console, "\ntest accuracy, points, with all other settings equal:")
    for parameter, series in rows[:TOLD_ROWS]:
        cells = (
            f"{_value(parameter, point.place)}: {_fixed(point.accuracy_points)}{say_collapse(records[point.trial])}"
            for point in series.points
        )
        fixed = ", ".join(f"{other} {value}" for other, value in series.fixed.items())
        _say_cells(f"  {series.network}, {parameter.label} ({fixed}):", list(cells), console)
    if len(rows) > TOLD_ROWS:
        say(console, f"  ... and {len(rows) - TOLD_ROWS} more rows in effects.csv")


def _say_cells(heading: str, cells: Sequence[str], console: Console) -> None:
    """The cells behind their heading, and where there is no room below it; none is broken."""
    line = heading
    for cell, end in zip(cells, [*[" |"] * (len(cells) - 1), ""], strict=True):
        if len(f"{line} {cell}{end}") > WIDTH:
            say(console, line)
            line = "   "
        line += f" {cell}{end}"
    say(console, line)


def _value(parameter: Parameter, place: float) -> str:
    return parameter.choices[int(place)] if parameter.choices else f"{place:g}"


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _print_importances(importances: Sequence[Importance], console: Console) -> None:
    """The parameter of the smallest p-value for each metric, by network; importance.csv has all of them."""
    if importances:
        say(console, f"\n{IMPORTANCE_HEADING}")
    strongest: dict[tuple[str, str], Importance] = {}
    for item in sorted(importances, key=lambda item: (item.p_value, -item.share)):
        strongest.setdefault((item.network, item.metric), item)
    for (network, metric), item in sorted(strongest.items()):
        of_settings = "" if item.num_settings == item.num_trials else f" of {item.num_settings} settings"
        trials = f"{item.num_trials} trials{of_settings}"
        say(
            console,
            f"  {network}, {metric}: {item.parameter} {item.share:.0%} (p = {item.family_p_value:.2g}, {trials})",
        )


def _print_problems(findings: Findings, console: Console) -> None:
    if findings.waiting:
        say(console, f"\nleft out, their baselines have not finished ({REDO}): {', '.join(findings.waiting)}")
    say_refused(findings.problems, console)


def say_refused(problems: Sequence[str], console: Console) -> None:
    """Files that were refused, a line each."""
    if problems:
        say(console, f"\nrefused files: {len(problems)}")
    for problem in problems:
        say(console, f"  {problem}")
