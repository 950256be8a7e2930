"""Draws `ImportancePanel`s: a table of shares per network. Computes nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gcc_search.analysis.figures import GREY
from gcc_search.analysis.importance import PERMUTATIONS, Importance
from gcc_search.analysis.importance_panels import ImportancePanel

SIGNIFICANT = 0.05
# White to dark blue: the darker, the more; the number stands in the cell.
COLOUR_MAP = "Blues"
# Above this share, white letters are read better.
DARK = 0.55
KEY = (
    "share of the metric's ranks that a parameter explains alone (validation split, finished trials)\n"
    f"+ rises with the parameter, - falls, no sign: choices; framed, *: p < {SIGNIFICANT} "
    f"({PERMUTATIONS:,} permutations,\n"
    "each cell on its own: of twenty in which nothing is to be found, one is framed)"
)


def draw_importance(panels: Sequence[ImportancePanel], *, title: str) -> Figure:
    """A row of cells per metric, a column per parameter, one table below the other."""
    rows = [max(len(panel.metrics), 1) for panel in panels] or [1]
    names = max((panel.parameters for panel in panels), key=len, default=())
    # Inches: a cell holds its text, and names of neighbours do not touch.
    cell = max(1.1, 0.09 * max(map(len, names), default=0))
    size = (max(cell * len(names) + 2.2, 7.6), 0.42 * sum(rows) + 1.0 * len(rows) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    all_axes = figure.subplots(len(rows), squeeze=False, height_ratios=rows)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw_panel(axes, panel)
    if not panels:
        _say(all_axes[0], "no trial")
    figure.suptitle(f"{title}\n{KEY}", x=0.02, ha="left", fontsize=9)
    return figure


def _draw_panel(axes: Axes, panel: ImportancePanel) -> None:
    axes.set_title(
        f"{panel.network}, {panel.num_finished} finished trials{_of_settings(panel)}", loc="left", fontsize=10
    )
    if panel.missing:
        _say(axes, panel.missing)
        return
    shares = [[float("nan") if cell is None else cell.share for cell in row] for row in panel.cells]
    axes.imshow(shares, cmap=COLOUR_MAP, vmin=0, vmax=1, aspect="auto")
    for row, cells in enumerate(panel.cells):
        for column, cell in enumerate(cells):
            _draw_cell(axes, row, column, cell)
    axes.set_xticks(range(len(panel.parameters)), panel.parameters, fontsize=9)
    axes.set_yticks(range(len(panel.metrics)), panel.metrics, fontsize=9)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _of_settings(panel: ImportancePanel) -> str:
    if panel.num_settings == panel.num_finished:
        return ""
    settings = f" of {panel.num_settings} setting{'' if panel.num_settings == 1 else 's'}"
    if panel.missing:
        return settings
    but = ", but for seed itself" if "seed" in panel.parameters else ""
    return f"{settings}: means over their seeds{but}"


def _draw_cell(axes: Axes, row: int, column: int, cell: Importance | None) -> None:
    if cell is None:
        axes.text(column, row, "-", ha="center", va="center", fontsize=9, color=GREY)
        return
    is_significant = cell.p_value < SIGNIFICANT
    # A direction that chance would give as well is none.
    sign = "" if cell.correlation is None else " +" if cell.correlation > 0 else " -"
    text = f"{cell.share:.0%}{sign} *" if is_significant else f"{cell.share:.0%}"
    colour = "white" if cell.share > DARK else "#202020"
    axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        fontsize=9,
        color=colour,
        weight="bold" if is_significant else "normal",
    )
    if is_significant:
        corners = ((column - 0.47, row - 0.44), 0.94, 0.88)
        axes.add_patch(Rectangle(*corners, fill=False, edgecolor="#202020", linewidth=1.2))


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.0, 0.5, text, transform=axes.transAxes, va="center", fontsize=9, color="#505050")
