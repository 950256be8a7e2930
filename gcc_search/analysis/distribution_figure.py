"""Draws `ConsistencyPanel`s as the paper's Figure 2: one panel per network. Computes nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gcc_search.analysis.against_paper import PaperMark
from gcc_search.analysis.distribution import ConsistencyPanel, Distribution
from gcc_search.analysis.figures import COLOURS, GREY

CONSISTENCY_AXIS = "consistency of one image's explanation: SSIM, test split (up to 1, higher is better)"
# Table 1, Figure 2.
PAPER_SHAPES = ("v", "D")
# Share of the axes' height between two marks, so that their bars do not cover each other.
BELOW = 0.06
KEY = "steps: test images; dashed: mean; dotted: mean chance level (maps of two different images)"


def draw_consistency(panels: Sequence[ConsistencyPanel], *, title: str, paper: Sequence[PaperMark] = ()) -> Figure:
    """Density of the images over consistency, baseline against chosen trial, one panel below the other.

    `paper`: published means, marked in the panels of the same network and data set.
    """
    figure = Figure(figsize=(8.4, 1.6 + 2.6 * max(len(panels), 1)), layout="constrained")
    all_axes = figure.subplots(max(len(panels), 1), sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=False):
        marks = [mark for mark in paper if (mark.data, mark.network) == (panel.data, panel.network)]
        _draw_panel(axes, panel, marks)
    if not panels:
        all_axes[0].set_axis_off()
        all_axes[0].text(0.5, 0.5, "no feasible trial with images.parquet", ha="center", color=GREY)
    all_axes[0].set_title(f"{title}\n{KEY}", loc="left", fontsize=9)
    # Two lines: beside a long legend the axes are narrow.
    all_axes[-1].set_xlabel(CONSISTENCY_AXIS.replace(": ", "\n"))
    return figure


def _draw_panel(axes: Axes, panel: ConsistencyPanel, marks: Sequence[PaperMark]) -> None:
    sides = (("baseline", panel.baseline, COLOURS[0]), ("ours", panel.trained, COLOURS[1]))
    for name, found, colour in sides:
        axes.stairs(found.density, panel.edges, color=colour, linewidth=1.5, fill=False, label=_label(name, found))
        axes.stairs(found.density, panel.edges, color=colour, alpha=0.15, fill=True)
        axes.axvline(found.mean, color=colour, linewidth=1.2, linestyle="--")
        axes.axvline(found.chance, color=colour, linewidth=1.2, linestyle=":")
    if marks:
        # Room above the distributions.
        axes.set_ylim(top=1.3 * axes.get_ylim()[1])
    for row, mark in enumerate(marks):
        _draw_mark(axes, 0.97 - 2 * BELOW * row, mark, PAPER_SHAPES[row])
    axes.set_ylabel("density of images")
    # Beside the axes: no place within is free in every run.
    axes.legend(
        title=f"{panel.network} on {panel.data}",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        fontsize=8,
        title_fontsize=9,
        alignment="left",
        borderaxespad=0,
    )


def _draw_mark(axes: Axes, height: float, mark: PaperMark, shape: str) -> None:
    """Means, with bars of one standard deviation where it is published, at `height` of the axes."""
    for place, name, mean, sd, colour in (
        (height, "baseline", mark.baseline, mark.baseline_sd, COLOURS[0]),
        (height - BELOW, "ours", mark.ours, mark.ours_sd, COLOURS[1]),
    ):
        axes.errorbar(
            [mean],
            [place],
            xerr=None if sd is None else [sd],
            fmt=shape,
            color=colour,
            markerfacecolor="white",
            markersize=6,
            capsize=3,
            transform=axes.get_xaxis_transform(),
            label=f"{mark.source}\n{name}: {mean:.4f}" + ("" if sd is None else f" ± {sd:.4f} (sd)"),
        )


def _label(name: str, found: Distribution) -> str:
    deviation = "" if found.sd is None else f" ± {found.sd:.4f} (sd)"
    return f"{name}: {found.trial}\n{found.mean:.4f}{deviation}\nchance {found.chance:.4f}, {found.num_images} images"
