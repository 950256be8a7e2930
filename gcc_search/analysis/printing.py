"""What `gcc-search analyze` says on the screen, within 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from gcc_search.analysis.against_paper import AgainstPaper
from gcc_search.analysis.bands import Bands
from gcc_search.analysis.bands_figure import say_band
from gcc_search.analysis.boundary import Boundary
from gcc_search.analysis.boundary_figure import STANDING, say_band_of_p
from gcc_search.analysis.boundary_standing import say_place, say_shift
from gcc_search.analysis.comparison import RULE, Comparison
from gcc_search.analysis.comparison_table import (
    KEY,
    comparison_heading,
    comparison_table,
    say_disagreement,
    say_seeds,
)
from gcc_search.analysis.effects import Effect
from gcc_search.analysis.findings import Findings, say_counts
from gcc_search.analysis.frontier import say_ranking
from gcc_search.analysis.importance import Importance
from gcc_search.analysis.seeds import INTERVAL
from gcc_search.analysis.several import trial_directory
from gcc_search.analysis.table import LEGEND, best_table, short_scientific
from gcc_search.analysis.tradeoff_figure import AXIS, say_published, say_spread

TOLD_ROWS = 10


def print_findings(findings: Findings, files: Sequence[Path], console: Console) -> None:
    """What was read, the best trials, Table 1, the tradeoffs, what was refused, and where the files are."""
    _print_best(findings, console)
    _print_comparisons(findings, console)
    say(console, f"\n{AXIS}:")
    for item in findings.tradeoffs:
        collapsed = f"; with collapsed: {say_spread(item.spread_all)}" if item.collapsed else ""
        say(console, f"  {item.network}: {say_spread(item.spread_finished)}{collapsed}")
    _print_knee(findings, console)
    _print_bands(findings.bands, console)
    _print_boundary(findings.boundary, console)
    _print_series(findings.effects, console)
    _print_importances(findings.importances, console)
    _print_paper(findings.paper, console)
    _print_problems(findings, console)
    say(console, f"\nwrote {files[0].parent}: {', '.join(path.name for path in files)}")


def _print_best(findings: Findings, console: Console) -> None:
    total = sum(findings.counts.values())
    say(console, f"{findings.run.name}: trials: {total} ({say_counts(findings.counts)})\n")
    console.print(best_table(findings.rows, limit=TOLD_ROWS))
    say(console, LEGEND)
    say(
        console,
        f"frontier: no feasible trial is better, on the validation split, in\n  {say_ranking(findings.frontier)}",
    )
    feasible = sum(row.rank is not None for row in findings.rows)
    if feasible == 0:
        say(console, f"no feasible trial: none kept {' and '.join(findings.frontier.constraints)}")
    elif feasible > TOLD_ROWS:
        say(console, f"... and {feasible - TOLD_ROWS} more feasible trials in best.csv")


def _print_comparisons(findings: Findings, console: Console) -> None:
    if findings.comparisons:
        say(console, f"\nbaseline against ours\n{RULE}\n{KEY}")
    for item in findings.comparisons:
        say(console, f"\n{comparison_heading(item)}")
        console.print(comparison_table(item))
        say(console, say_disagreement(item.disagreement))
        say(console, f"train ours again: {findings.origins[item.trial].command}")
        if findings.paper is not None:
            _print_paper_lines(findings.paper, item, console)
        if item.seeds:
            say(console, f"the same settings under several seeds, ours - baseline ({INTERVAL}):")
        for spread in item.seeds:
            say(console, f"  {say_seeds(spread)}")


def _print_paper_lines(paper: AgainstPaper, item: Comparison, console: Console) -> None:
    lines = [line for line in paper.lines if (line.published.data, line.published.network) == (item.data, item.network)]
    if lines:
        say(console, "the paper's Table 1, baseline / ours (here minus paper):")
    for line in lines:
        digits = 3 if line.published.measure == "insertion AUC" else 2
        published = f"{line.published.baseline.value:.2f} / {line.published.ours.value:.2f}"
        differences = f"{line.baseline_difference:+.{digits}f} / {line.ours_difference:+.{digits}f}"
        say(console, f"  {line.published.measure}: {published} ({differences})")


def _print_paper(paper: AgainstPaper | None, console: Console) -> None:
    """The rest of the paper's numbers that have a counterpart, and what can be compared at all."""
    if paper is None:
        return
    say(console, "\ncompared with the paper:")
    for note in paper.notes:
        say(console, f"  {note}")
    for found in paper.tradeoffs:
        say(console, f"  Fig. 3, accuracy tradeoff, {found.network}: {say_published(found)}")
    for row in paper.series:
        fixed = ", ".join(f"{name} {value:g}" for name, value in row.fixed)
        cells = " | ".join(f"{place:g}: {published.value:.2f}" for place, published in sorted(row.points))
        say(console, f"  Table 2, {row.network}, {row.parameter} ({fixed}): {cells}")


def _print_knee(findings: Findings, console: Console) -> None:
    rows = {row.trial: row for row in findings.rows}
    row = rows.get(findings.growth.knee or "")
    if row is None:
        say(console, "\nno knee of the frontier of C* and Gini: fewer than three trials on it, or none above its chord")
        return
    settings = f"alpha {short_scientific(row.alpha)}, beta {short_scientific(row.beta)}, p {row.p:.2f}"
    say(console, f"\nknee of the frontier of C* and Gini: {trial_directory(row.trial)} ({settings})")
    say(console, f"  train it again: {findings.origins[row.trial].command}")


def _print_bands(bands: Bands, console: Console) -> None:
    """Hypervolume at the end of the shortest seed's search, over seeds."""
    if bands.growth is None:
        say(console, f"hypervolume: {bands.growth_missing}")
        return
    band = bands.growth
    interval = f"{band.mean[-1]:.4f} (95 % bootstrap interval {band.low[-1]:.4f} to {band.high[-1]:.4f})"
    say(console, f"hypervolume: mean of {len(band.seeds)} seeds {interval}\n  {say_band(bands)}")


def _print_boundary(boundary: Boundary, console: Console) -> None:
    """Where half of the networks fail, and how that place moves."""
    standing = [(panel, panel.standing) for panel in boundary.panels if panel.standing is not None]
    if standing:
        say(console, f"\nwhere training fails\n{STANDING}")
    for panel, found in standing:
        where = f"{panel.network}, {say_band_of_p(panel)}, beta {short_scientific(10**found.log_beta)}"
        say(console, f"  {where}: {say_place(found)}")
        say(console, f"    {say_shift(found)}".replace("\n", " "))


def _print_series(effects: Sequence[Effect], console: Console) -> None:
    """Rows as in the paper's Table 2, the first ten; effects.csv has all of them."""
    rows = [(effect.parameter.name, series) for effect in effects for series in effect.series]
    if rows:
        say(console, "\ntest accuracy, points, with all other settings equal:")
    for name, series in rows[:TOLD_ROWS]:
        cells = (f"{point.place:g}: {_fixed(point.accuracy_points)}" for point in series.points)
        fixed = ", ".join(f"{other} {value}" for other, value in series.fixed.items())
        say(console, f"  {series.network}, {name} ({fixed}): {' | '.join(cells)}")
    if len(rows) > TOLD_ROWS:
        say(console, f"  ... and {len(rows) - TOLD_ROWS} more rows in effects.csv")


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _print_importances(importances: Sequence[Importance], console: Console) -> None:
    """The parameter that explains most of each metric, by network; importance.csv has all of them."""
    if importances:
        say(console, "\nshare of a metric's ranks that a parameter explains alone (p: permutations), the largest:")
    strongest: dict[tuple[str, str], Importance] = {}
    for item in sorted(importances, key=lambda item: -item.share):
        strongest.setdefault((item.network, item.metric), item)
    for (network, metric), item in sorted(strongest.items()):
        share = f"{item.parameter} {item.share:.0%} (p = {item.p_value:.2g}, {item.num_trials} trials)"
        say(console, f"  {network}, {metric}: {share}")


def _print_problems(findings: Findings, console: Console) -> None:
    if findings.waiting:
        say(console, f"\nleft out until their baselines are trained: {', '.join(findings.waiting)}")
    if findings.problems:
        say(console, f"\nrefused files: {len(findings.problems)}")
    for problem in findings.problems:
        say(console, f"  {problem}")


def say(console: Console, text: str) -> None:
    """Prints `text` as it is: brackets in users' names are no markup, and a path is copied better unwrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
