"""Figures as bytes that are the same on every machine with the same matplotlib: one style, no dates, fixed ids."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

DPI = 160
# A vector layer takes a hundred bytes a point: figures of ten thousand trials would be beyond what browsers open.
MOST_VECTOR_POINTS = 500

# Okabe and Ito's palette, told apart under every kind of colour blindness; a shape says the same for grey prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "h")
GREY = "#8C8C8C"
# The golden ratio's fraction spreads any number of points evenly, and the same way each time.
GOLDEN = 0.6180339887498949

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "legend.frameon": False,
    "svg.hashsalt": "gcc-search",
    # Letters as outlines: the figure looks the same where the font is missing.
    "svg.fonttype": "path",
}


def render(draw: Callable[[], Figure], *, title: str, description: str) -> Mapping[str, bytes]:
    """PNG and SVG of what `draw` returns, by suffix. `description` travels in the file: where the data came from."""
    with _our_style():
        figure = _take_literally(draw())
        dense = _rasterise_dense_layers(figure)
        told = {"Title": title, "Description": description}
        # Packed lightly: sooner done, and a tenth larger than at the usual level.
        png = _bytes(figure, format="png", dpi=DPI, metadata=told, pil_kwargs={"compress_level": 3})
        # Everything has its place by now; working it out again is a third of the time.
        figure.set_layout_engine("none")
        fine = {"dpi": DPI} if dense else {}
        return {"png": png, "svg": _bytes(figure, format="svg", metadata=told | {"Date": None}, **fine)}


@contextmanager
def _our_style() -> Iterator[None]:
    # From matplotlib's own defaults: what a user's matplotlibrc says must not change the bytes.
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        # A letter of a user's names that the font lacks is drawn as a box, and is no concern of the terminal.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _take_literally(figure: Figure) -> Figure:
    """No `$` of a user's names begins a formula; of matplotlib's own texts, the numbers along a log axis are some."""
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis) if axis.get_scale() == "log"]
    formulas = {label for axis in axes for label in axis.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        if text not in formulas:
            text.set(parse_math=False)
    return figure


def _rasterise_dense_layers(figure: Figure) -> bool:
    """Has layers of many points drawn as pixels inside the SVG, and says so on the figure; True where there are any."""
    layers = [layer for axes in figure.axes for layer in axes.collections if isinstance(layer, PathCollection)]
    dense = [layer for layer in layers if np.shape(layer.get_offsets())[0] > MOST_VECTOR_POINTS]
    for layer in dense:
        layer.set_rasterized(True)
    if dense:
        note = f"layers of more than {MOST_VECTOR_POINTS} points are pixels in the SVG"
        # Up the right edge: titles and legends begin on the left.
        figure.text(0.998, 0.5, note, rotation=90, ha="right", va="center", fontsize=6, color=GREY)
        figure.set_layout_engine("constrained", rect=(0, 0, 1 - 0.12 / figure.get_figwidth(), 1))
    return bool(dense)


def render_as(draw: Callable[[], Figure], suffix: str, *, title: str, description: str) -> bytes:
    """What `draw` returns as png, svg or pdf alone, in the style of all figures."""
    with _our_style():
        figure = _take_literally(draw())
        told: dict[str, Any] = {"Title": title, "Subject" if suffix == "pdf" else "Description": description}
        undated: dict[str, dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        return _bytes(figure, format=suffix, dpi=DPI, metadata=told | undated[suffix])


def _bytes(figure: Figure, **how: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, **how)
    return content.getvalue()


def network_style(networks: list[str]) -> dict[str, tuple[str, str]]:
    """(marker, colour) of each network, in the order given; both repeat after seven."""
    return {name: (MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]) for i, name in enumerate(networks)}
