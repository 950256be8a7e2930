"""The figure of `gcc-search explain`: a block per image, in it a row per network. Computes nothing but overlays."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gcc_search.analysis.explanations import Block, Explanations, View
from gcc_search.analysis.overlay import Pixels, overlay

# Inches.
PANEL, GAP, ROW_GAP, BLOCK_GAP = 1.5, 0.08, 0.42, 0.24
LEFT, TOP, BOTTOM = 0.1, 0.75, 1.05
LABEL_WIDTH = 22

KEY = (
    "x: the image as the network sees it.  t: a crop (outline), scaled up, perhaps mirrored.  M: Grad-CAM heatmap of "
    "the class predicted on x, named above it with its probability.  SSIM: consistency of t(M(x)) and M(t(x)), up to 1."
)


def draw_explanations(explanations: Explanations, *, title: str) -> Figure:
    """Columns: x, M(x), other methods, t(x), t(M(x)), M(t(x)). Rows: networks, block by block."""
    num_rows = sum(len(block.views) for block in explanations.blocks)
    num_columns = 5 + len(explanations.methods)
    width = LEFT + num_columns * (PANEL + GAP) + 0.3
    height = TOP + BOTTOM + num_rows * (PANEL + ROW_GAP) + (len(explanations.blocks) - 1) * BLOCK_GAP
    page = _Page(figure=Figure(figsize=(width, height)), width=width, height=height)
    page.figure.text(LEFT / width, 1 - 0.2 / height, title, fontsize=11, va="top")
    top = TOP
    for block in explanations.blocks:
        _draw_block(page, block, explanations.methods, top=top)
        top += len(block.views) * (PANEL + ROW_GAP) + BLOCK_GAP
    _draw_key(page, explanations)
    return page.figure


@dataclass(frozen=True, kw_only=True)
class _Page:
    """A figure that is measured in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def panel(self, column: int, top: float, pixels: Pixels) -> Axes:
        # The network's name stands between x and M(x).
        left = LEFT + column * (PANEL + GAP) + (0.25 if column else 0.0)
        axes = self.axes(left, top, PANEL, PANEL)
        axes.imshow(pixels)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes


def _draw_block(page: _Page, block: Block, methods: tuple[str, ...], *, top: float) -> None:
    after = 2 + len(methods)
    first = page.panel(0, top, block.picture)
    label = "x" if block.label is None else f"x: {block.label}"
    first.set_title(_fit(label), fontsize=8, pad=3)
    first.set_xlabel(_fit(block.name, end=True), fontsize=7, labelpad=2)
    # White on black: seen on any picture.
    first.add_patch(_outline(block, "black", 2.4))
    first.add_patch(_outline(block, "white", 1.2))
    moved = page.panel(after, top, block.moved_picture)
    moved.set_title("t(x), mirrored" if block.mirrored else "t(x)", fontsize=8, pad=3)
    for row, view in enumerate(block.views):
        _draw_view(page, block, view, methods, top=top + row * (PANEL + ROW_GAP))


def _outline(block: Block, colour: str, width: float) -> Rectangle:
    size = len(block.picture)
    top, left, tall, wide = (size * share for share in block.crop)
    return Rectangle((left - 0.5, top - 0.5), wide, tall, fill=False, edgecolor=colour, linewidth=width)


def _draw_view(page: _Page, block: Block, view: View, methods: tuple[str, ...], *, top: float) -> None:
    after = 2 + len(methods)
    ours = page.panel(1, top, overlay(block.picture, view.heat))
    ours.set_title(_say_prediction(block, view), fontsize=8, pad=3)
    ours.set_ylabel(_fit(view.network, end=True), fontsize=8, labelpad=3)
    for column, (method, heat) in enumerate(zip(methods, view.others, strict=True), start=2):
        page.panel(column, top, overlay(block.picture, heat)).set_title(method, fontsize=8, pad=3)
    pair = page.panel(after + 1, top, overlay(block.moved_picture, view.moved_heat))
    pair.set_title("t(M(x))", fontsize=8, pad=3)
    page.panel(after + 2, top, overlay(block.moved_picture, view.heat_of_moved)).set_title("M(t(x))", fontsize=8, pad=3)
    # Under the middle of the two.
    middle = 1 + GAP / PANEL / 2
    pair.text(
        middle, -0.03, f"SSIM {view.consistency:.3f}", transform=pair.transAxes, ha="center", va="top", fontsize=8
    )


def _say_prediction(block: Block, view: View) -> str:
    wrong = block.label is not None and view.predicted != block.label
    told = f" {view.confidence:.2f}{' (wrong)' if wrong else ''}"
    return f"M(x): {_fit(view.predicted, LABEL_WIDTH - len(told))}{told}"


def _fit(text: str, width: int = LABEL_WIDTH, *, end: bool = False) -> str:
    """Cut to `width`: names of classes tell by their beginning, those of files and trials by their end."""
    if len(text) <= width:
        return text
    return f"…{text[1 - width :]}" if end else f"{text[: width - 1]}…"


def _draw_key(page: _Page, explanations: Explanations) -> None:
    top = page.height - BOTTOM + 0.15
    bar = page.axes(LEFT, top, 2.0, 0.12)
    grey = np.full((1, 256, 3), 128, dtype=np.uint8)
    bar.imshow(overlay(grey, np.linspace(0, 1, 256)[None]), aspect="auto", extent=(0, 1, 0, 1))
    bar.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=7)
    bar.set_yticks([])
    bar.grid(visible=False)
    told = "heatmap over the greyed image: 0 is its least, 1 its greatest value in this image"
    if explanations.methods:
        told += "; other methods: pytorch-grad-cam, clipped at 0 first"
    bar.text(1.05, 0.5, told, transform=bar.transAxes, va="center", fontsize=7)
    lines = "\n".join(textwrap.wrap(KEY, int(page.width * 17)))
    page.figure.text(LEFT / page.width, 1 - (top + 0.38) / page.height, lines, fontsize=7, va="top")
