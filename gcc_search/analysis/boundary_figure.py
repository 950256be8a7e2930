"""Draws a `Boundary`: a row per network and unit of beta, a column per band of p. Computes nothing of its own."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gcc_search.analysis.boundary import DRAWN, FAILED, Boundary, BoundaryPanel
from gcc_search.analysis.boundary_marks import MARKS, TRADEOFFS, draw_marks, has_neighbours
from gcc_search.analysis.boundary_standing import say_place, say_shift
from gcc_search.analysis.parameters import say_unit

WORDS_OF = {"finished": "trained", "stopped": "stopped early: had not failed"}
# Above 1, so that the darkest grey leaves black marks visible.
LIGHTEST_TO_DARKEST = Normalize(0, 1.8)
LEVELS = tuple(tenth / 10 for tenth in range(11))
STANDING = (
    "half fail: at a panel's median beta; moves: decades of alpha per decade of beta\n"
    "in brackets: 95 % bootstrap interval over the panel's settings, each with all its seeds"
)
STOPPED = "stopped early: counted as not failed, as it had not failed by then"
BESIDE = "marks side by side: trials of the same alpha and beta, moved around their place"
MOST_TICKS = 5
WORDS = {
    "none failed": "none failed: no boundary",
    "all failed": "all failed: no boundary",
    "no trial": "no trial",
}


def draw_boundary(boundary: Boundary, *, title: str) -> Figure:
    """Trials over decades of alpha and beta, the fitted probability of failing, and the line where it is 0.5."""
    rows = list(dict.fromkeys((panel.network, panel.sparsity) for panel in boundary.panels)) or [("", None)]
    columns = max(len(boundary.panels) // len(rows), 1)
    figure = Figure(figsize=(max(2.9 * columns + 2.4, 7.6), 2.7 * len(rows) + 1.9), layout="constrained")
    grid = figure.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False)
    scale = Normalize(-boundary.tradeoff_limit, boundary.tradeoff_limit)
    for axes, panel in zip(grid.flat, boundary.panels, strict=False):
        _draw_panel(axes, panel, boundary, scale)
    grid[0, 0].set(xlim=boundary.alpha_range, ylim=boundary.beta_range)
    for row, (network, sparsity) in enumerate(rows):
        grid[row, 0].set_ylabel(f"{network}\nlog10 beta{say_unit(sparsity)}")
    for axes in grid[-1]:
        axes.set_xlabel("log10 alpha")
        # Panels are narrow, and numbers of two decimals touch each other.
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS))
    _draw_bars(figure, grid.ravel().tolist(), boundary, scale)
    figure.suptitle(f"{title}\n{_subtitle(boundary)}", x=0.02, ha="left", fontsize=10)
    figure.legend(handles=_legend(boundary), loc="outside lower left", ncols=4, fontsize=8)
    return figure


def _draw_panel(axes: Axes, panel: BoundaryPanel, boundary: Boundary, scale: Normalize) -> None:
    if panel.field:
        extent = (*boundary.alpha_range, *boundary.beta_range)
        axes.contourf(panel.field, levels=LEVELS, extent=extent, zorder=0.5, cmap="Greys", norm=LIGHTEST_TO_DARKEST)
    draw_marks(axes, panel.dots, scale)
    axes.plot([place[0] for place in panel.line], [place[1] for place in panel.line], color="#202020", linewidth=1.4)
    # Above the axes: within them, a trial may stand anywhere.
    axes.set_title("\n".join([_band(panel), *_told(panel)]), fontsize=8)


def _told(panel: BoundaryPanel) -> list[str]:
    if panel.standing is None:
        return [panel.standing_missing or WORDS[panel.fit]]
    return [say_place_on_axes(panel), say_shift(panel.standing)]


def say_place_on_axes(panel: BoundaryPanel) -> str:
    """`half fail at alpha 0.32`, and that it is outside the axes where no trial is near."""
    assert panel.standing is not None, "the caller has looked"
    return say_place(panel.standing) + ("" if panel.line else ", outside the axes")


def _band(panel: BoundaryPanel) -> str:
    failed = sum(dot.status in FAILED for dot in panel.dots)
    stopped = sum(dot.status == "stopped" for dot in panel.dots)
    told = f"{say_band_of_p(panel)}: {failed} of {len(panel.dots)} failed"
    return f"{told}, {stopped} stopped" if stopped else told


def say_band_of_p(panel: BoundaryPanel) -> str:
    """`p = 1`, `p 0.50 to 0.81`."""
    return f"p = {panel.p_low:.4g}" if panel.p_low == panel.p_high else f"p {panel.p_low:.2f} to {panel.p_high:.2f}"


def _draw_bars(figure: Figure, grid: list[Axes], boundary: Boundary, scale: Normalize) -> None:
    if any(dot.tradeoff_points is not None for panel in boundary.panels for dot in panel.dots):
        label = "dots: accuracy tradeoff, points\n(positive = accuracy lost)"
        figure.colorbar(ScalarMappable(scale, TRADEOFFS), ax=grid, label=label, pad=0.02, aspect=30)
    fields = [drawn for axes in grid for drawn in axes.collections if isinstance(drawn, ContourSet)]
    if fields:
        label = "grey: fitted probability of failing"
        figure.colorbar(fields[0], ax=grid, label=label, ticks=LEVELS[::2], pad=0.02, aspect=30)


def _subtitle(boundary: Boundary) -> str:
    left_out = f"; {boundary.left_out} with alpha or beta 0 left out" if boundary.left_out else ""
    if not boundary.panels:
        return f"no trial with alpha and beta above 0{left_out}"
    beside = [BESIDE] if any(has_neighbours(panel.dots) for panel in boundary.panels) else []
    return "\n".join([f"where training fails{left_out}", *key_of(boundary), *beside])


def key_of(boundary: Boundary) -> list[str]:
    """What the panels' words mean, and how trials that were stopped early are counted where there are any."""
    stands = any(panel.standing is not None for panel in boundary.panels)
    return [*([STANDING] if stands else []), *([STOPPED] if _has_stopped(boundary) else [])]


def _has_stopped(boundary: Boundary) -> bool:
    return any(dot.status == "stopped" for panel in boundary.panels for dot in panel.dots)


def _legend(boundary: Boundary) -> list[Line2D]:
    marks = {"finished": ("o", "#202020"), **MARKS}
    shown = [status for status in DRAWN if status != "stopped" or _has_stopped(boundary)]
    dots = [_key(status, *marks[status]) for status in shown]
    return [*dots, Line2D([], [], color="#202020", linewidth=1.4, label="half fail (logistic fit, L2)")]


def _key(status: str, shape: str, colour: str) -> Line2D:
    label, face = WORDS_OF.get(status, status), colour if status in FAILED else "white"
    return Line2D([], [], linestyle="none", marker=shape, color=colour, markerfacecolor=face, label=label)
