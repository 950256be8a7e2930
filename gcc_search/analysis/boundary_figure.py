"""Draws a `Boundary`: a row per network, a column per band of p. Computes nothing of its own."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gcc_search.analysis.boundary import DRAWN, Boundary, BoundaryPanel
from gcc_search.analysis.figures import COLOURS

# Trained, collapsed, diverged: told apart by colour, by shape, and by being filled or not.
MARKS = {"finished": ("o", COLOURS[0]), "collapsed": ("x", COLOURS[1]), "diverged": ("^", COLOURS[6])}
WORDS = {
    "all trained": "all trained: no boundary",
    "all failed": "all failed: no boundary",
    "no trial": "no trial",
    "fitted": "boundary outside the axes",
}


def draw_boundary(boundary: Boundary, *, title: str) -> Figure:
    """Trials over decades of alpha and beta; the line where half of the networks are expected to fail."""
    networks = list(dict.fromkeys(panel.network for panel in boundary.panels)) or [""]
    columns = max(len(boundary.panels) // len(networks), 1)
    figure = Figure(figsize=(max(2.9 * columns + 1.0, 6.4), 2.5 * len(networks) + 1.7), layout="constrained")
    grid = figure.subplots(len(networks), columns, sharex=True, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, boundary.panels, strict=False):
        _draw_panel(axes, panel)
    grid[0, 0].set(xlim=boundary.alpha_range, ylim=boundary.beta_range)
    for row, network in enumerate(networks):
        grid[row, 0].set_ylabel(f"{network}\nlog10 beta")
    for axes in grid[-1]:
        axes.set_xlabel("log10 alpha")
    figure.suptitle(f"{title}\n{_subtitle(boundary)}", x=0.02, ha="left", fontsize=10)
    figure.legend(handles=_legend(), loc="outside lower left", ncols=4, fontsize=8)
    return figure


def _draw_panel(axes: Axes, panel: BoundaryPanel) -> None:
    for status, (marker, colour) in MARKS.items():
        ours = [dot for dot in panel.dots if dot.status == status]
        across, up = [dot.log_alpha for dot in ours], [dot.log_beta for dot in ours]
        axes.scatter(across, up, s=24, marker=marker, color=colour, alpha=0.85, zorder=3)
    axes.plot([place[0] for place in panel.line], [place[1] for place in panel.line], color="#202020", linewidth=1.4)
    # Above the axes: within them, a trial may stand anywhere.
    axes.set_title(_band(panel) + ("" if panel.line else f"\n{WORDS[panel.fit]}"), fontsize=9)


def _band(panel: BoundaryPanel) -> str:
    band = f"p = {panel.p_low:.4g}" if panel.p_low == panel.p_high else f"p {panel.p_low:.2f} to {panel.p_high:.2f}"
    failed = sum(dot.status != "finished" for dot in panel.dots)
    return f"{band}: {failed} of {len(panel.dots)} failed"


def _subtitle(boundary: Boundary) -> str:
    left_out = f"; {boundary.left_out} with alpha or beta 0 left out" if boundary.left_out else ""
    return f"where training fails{left_out}" if boundary.panels else f"no trial with alpha and beta above 0{left_out}"


def _legend() -> list[Line2D]:
    words = {"finished": "trained", "collapsed": "collapsed", "diverged": "diverged"}
    dots = [
        Line2D([], [], linestyle="none", marker=MARKS[status][0], color=MARKS[status][1], label=words[status])
        for status in DRAWN
    ]
    return [*dots, Line2D([], [], color="#202020", linewidth=1.4, label="half fail (logistic fit, L2)")]
