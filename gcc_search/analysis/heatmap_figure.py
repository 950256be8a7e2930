"""Draws the rows of a heatmap grid as the paper's Figure 4. Computes nothing of its own."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from gcc_search.analysis.figures import GREY
from gcc_search.analysis.gallery import Gallery, KeptImage, KeptMaps
from gcc_search.analysis.heatmap_grid import GridCell, GridRow
from gcc_search.analysis.overlay import COLOURS, Pixels, heatmap, overlay

SIDE = 1.35
"""Of a picture, inches."""
FEWEST_COLUMNS = 5
"""Of a figure: its title and its colour bar have room."""
LETTERS = 22
"""That stand above a picture side by side."""
LINE, USUAL_LINES = 0.12, 4
"""Of a caption: inches, and how many a row has room for; it grows for more."""


def draw_heatmaps(rows: Sequence[GridRow], gallery: Gallery, *, title: str) -> Figure:
    """Image, its baseline's heatmap, then one heatmap for each value of a parameter; a row for each parameter.

    Rows of one network walk through the kept images, so that more than one is seen.
    """
    columns = max([FEWEST_COLUMNS, *(2 + len(row.cells) for row in rows)])
    captions = max((_told_row(row).count("\n") + 2 for row in rows), default=0)
    height = SIDE + 0.75 + LINE * max(captions - USUAL_LINES, 0)
    figure = Figure(figsize=(columns * SIDE + 1.2, max(len(rows), 1) * height + 1.3), layout="constrained")
    grid = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    if not rows:
        grid[0, 0].text(0, 0.5, "no two networks that kept their heatmaps differ in a parameter", color=GREY)
    for number, (line, row) in enumerate(zip(grid, rows, strict=False)):
        _draw_row(line, row, gallery, number)
    figure.suptitle(
        f"{title}\nheatmaps of test images, for the class that each network predicts", x=0.01, ha="left", fontsize=10
    )
    bar = figure.colorbar(
        ScalarMappable(cmap=COLOURS), ax=grid.ravel().tolist(), location="bottom", shrink=0.35, aspect=35
    )
    bar.set_label("heatmap, 0 to 1 of its own range", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _draw_row(line: Sequence[Axes], row: GridRow, gallery: Gallery, number: int) -> None:
    album = gallery.albums[gallery.album_of[row.cells[0].trial]]
    place = number % len(album.images)
    image = album.images[place]
    picture = open_picture(image)
    _show(line[0], picture, f"{_class_name(album.classes, image.label)}\n{_told_row(row)}")
    baseline = gallery.maps_of(row.baseline)
    if baseline is not None:
        _show(line[1], _lit(picture, baseline, place), _told_baseline(row))
    for axes, cell in zip(line[2:], row.cells, strict=False):
        maps = gallery.maps_of(cell.trial)
        if maps is not None:
            _show(axes, _lit(picture, maps, place), _told_cell(row, cell))


def open_picture(image: KeptImage) -> Pixels:
    """The kept picture, decoded."""
    return np.asarray(Image.open(io.BytesIO(image.picture)).convert("RGB"))


def _lit(picture: Pixels, maps: KeptMaps, place: int) -> Pixels:
    raw = np.array(maps.maps[place], dtype=np.float64).reshape(maps.side, maps.side)
    return overlay(picture, heatmap(raw, len(picture)))


def _show(axes: Axes, picture: Pixels, caption: str) -> None:
    axes.imshow(picture, interpolation="lanczos")
    axes.set_title(caption, fontsize=7.5)


def _class_name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label < len(classes) else f"class {label}"


def _told_row(row: GridRow) -> str:
    """The network, and below it all that was sampled and is equal along the row, as much on a line as has room."""
    if row.fixed is None:
        return f"{row.network}\nother settings differ"
    # A name and its value stay together: no line is broken at such a space.
    told = ", ".join(f"{name}\N{NO-BREAK SPACE}{_short(value)}" for name, value in row.fixed.items())
    return "\n".join([row.network, *textwrap.wrap(told, LETTERS, break_long_words=False, break_on_hyphens=False)])


def _told_baseline(row: GridRow) -> str:
    return "baseline" if row.baseline_is_shared else f"baseline of\n{row.parameter} {row.cells[0].value}"


def _told_cell(row: GridRow, cell: GridCell) -> str:
    accuracy = "" if cell.accuracy_points is None else f"\naccuracy {cell.accuracy_points:.1f}"
    corrected = "" if cell.corrected_consistency is None else f"\nC* {cell.corrected_consistency:.2f}"
    collapsed = " (collapsed)" if cell.status == "collapsed" else ""
    return f"{row.parameter} {cell.value}{collapsed}{accuracy}{corrected}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
