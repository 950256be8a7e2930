"""Draws the trials of a panel of the boundary figure, each with a mark of its own, side by side on one place."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.transforms import ScaledTranslation

from gcc_search.analysis.boundary import BoundaryDot
from gcc_search.analysis.figures import COLOURS
from gcc_search.analysis.shared_places import Offset, spread_apart

# Networks without an accuracy: told apart by colour, by shape, and by being filled or not.
MARKS = {"stopped": ("D", "#202020"), "collapsed": ("x", COLOURS[1]), "diverged": ("^", COLOURS[6])}
# Orange: accuracy lost, purple: gained, white: neither; told apart under every kind of colour blindness.
TRADEOFFS = "PuOr_r"
POINTS_PER_INCH = 72


def draw_marks(axes: Axes, dots: Sequence[BoundaryDot], scale: Normalize) -> None:
    """A mark per trial: one with an accuracy in the colour of what it lost, the others by how they ended."""
    groups: dict[Offset, list[BoundaryDot]] = {}
    for dot, offset in zip(dots, spread_apart(_places(dots)), strict=True):
        groups.setdefault(offset, []).append(dot)
    for offset, ours in groups.items():
        _draw_group(axes, ours, offset, scale)


def has_neighbours(dots: Sequence[BoundaryDot]) -> bool:
    """Whether some share a place, so that their marks are moved."""
    return len({*_places(dots)}) < len(dots)


def _places(dots: Sequence[BoundaryDot]) -> list[tuple[float, float]]:
    return [(dot.log_alpha, dot.log_beta) for dot in dots]


def _draw_group(axes: Axes, dots: Sequence[BoundaryDot], offset: Offset, scale: Normalize) -> None:
    trained = [dot for dot in dots if dot.status == "finished"]
    drawn = [
        axes.scatter(
            [dot.log_alpha for dot in trained],
            [dot.log_beta for dot in trained],
            c=[float("nan") if dot.tradeoff_points is None else dot.tradeoff_points for dot in trained],
            cmap=TRADEOFFS,
            norm=scale,
            s=26,
            edgecolors="#202020",
            linewidths=0.6,
            plotnonfinite=True,
            zorder=3,
        )
    ]
    drawn += [_draw_status(axes, [dot for dot in dots if dot.status == status], status) for status in MARKS]
    if offset != (0.0, 0.0):
        for marks in drawn:
            _move(marks, axes, offset)


def _draw_status(axes: Axes, dots: Sequence[BoundaryDot], status: str) -> PathCollection:
    marker, colour = MARKS[status]
    across, up = [dot.log_alpha for dot in dots], [dot.log_beta for dot in dots]
    if status == "stopped":
        return axes.scatter(
            across, up, s=14, marker=marker, facecolors="none", edgecolors=colour, linewidths=0.8, zorder=3
        )
    return axes.scatter(across, up, s=24, marker=marker, color=colour, zorder=3)


def _move(marks: PathCollection, axes: Axes, offset: Offset) -> None:
    figure = axes.get_figure()
    assert figure is not None, "axes of a figure"
    right, up = (points / POINTS_PER_INCH for points in offset)
    marks.set_offset_transform(axes.transData + ScaledTranslation(right, up, figure.dpi_scale_trans))
    # It may stand across the edge of the axes, and the figure is laid out as if it stood in its place.
    marks.set_clip_on(False)
    marks.set_in_layout(False)
