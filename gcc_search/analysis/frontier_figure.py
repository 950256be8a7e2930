"""Draws a `Frontier`: C* against Gini, coloured by test accuracy; the band over seeds behind. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gcc_search.analysis.bands import Bands
from gcc_search.analysis.bands_figure import band_keys, draw_band, say_band
from gcc_search.analysis.figures import GREY, network_style
from gcc_search.analysis.frontier import Frontier, Point, say_none_feasible, say_ranking

# Areas in points squared, matplotlib's unit for scatter.
SIZE, SMALL, STAR, RING, KNEE = 46, 16, 190, 130, 300


def draw_frontier(frontier: Frontier, *, bands: Bands, knee: str | None, title: str) -> Figure:
    """x: Gini, y: C*, both on the validation split; colour: test accuracy in points; a shape per network.

    Frontier members are ringed, `knee` has a square. The line joins the trials that none beats in both Gini and C*.
    Grey: breaks a constraint, or collapsed.
    """
    figure = Figure(figsize=(7.6, 6.8), layout="constrained")
    axes = figure.add_subplot()
    if bands.attainment is not None:
        draw_band(axes, bands.attainment)
    _draw_grey(axes, frontier)
    _draw_edge(axes, frontier, knee)
    coloured = _draw_coloured(axes, frontier)
    if coloured is not None:
        figure.colorbar(coloured, ax=axes, label="test accuracy, points (0 to 100)", pad=0.02)
    axes.set(
        xlim=frontier.gini_range,
        ylim=frontier.corrected_consistency_range,
        xlabel="sparsity: Gini index of the map, validation split (0 to 1, higher is sparser)",
        ylabel="corrected consistency C*, validation split (up to 1, higher is better)",
    )
    told = bands.attainment_missing or say_band(bands)
    axes.set_title(f"{title}\n{_subtitle(frontier)}\n{told}", loc="left", fontsize=9)
    figure.legend(handles=_legend(frontier, bands, knee), loc="outside lower left", ncols=2, fontsize=9)
    return figure


def _draw_grey(axes: Axes, frontier: Frontier) -> None:
    markers = _markers(frontier)
    layers: dict[str, list[Point]] = {}
    for point in frontier.points:
        if not point.feasible:
            marker = "x" if point.status == "collapsed" else markers[point.network]
            layers.setdefault(marker, []).append(point)
    for marker, points in layers.items():
        axes.scatter(*_place(points), s=SMALL, marker=marker, color=GREY, linewidths=1, alpha=0.8)


def _draw_edge(axes: Axes, frontier: Frontier, knee: str | None) -> None:
    points = {point.id: point for point in frontier.points}
    places = _place([points[name] for name in frontier.edge])
    axes.plot(*places, drawstyle="steps-pre", color="#404040", linewidth=1, zorder=1.5)
    members = [point for point in frontier.points if point.on_frontier]
    axes.scatter(*_place(members), s=RING, marker="o", facecolors="none", edgecolors="#202020", linewidths=1)
    chosen = [points[name] for name in frontier.edge if name == knee]
    axes.scatter(*_place(chosen), s=KNEE, marker="s", facecolors="none", edgecolors="#202020", linewidths=1)


def _draw_coloured(axes: Axes, frontier: Frontier) -> PathCollection | None:
    """Feasible trials and baselines, one colour scale for all; what the colour bar is made from, None without any."""
    styles = network_style(_networks(frontier))
    feasible = [point for point in frontier.points if point.feasible]
    accuracies = _accuracies([*feasible, *frontier.baselines])
    low, high = (min(accuracies), max(accuracies)) if accuracies else (0.0, 100.0)
    # No colour for hundredths of a point: the scale spans a point at least.
    slack = max(0.0, 0.5 - (high - low) / 2)
    scale = Normalize(low - slack, high + slack)
    drawn = None
    for network, (marker, colour) in styles.items():
        for points, shape, size in ((feasible, marker, SIZE), (frontier.baselines, "*", STAR)):
            ours = [point for point in points if point.network == network]
            drawn = axes.scatter(
                *_place(ours),
                c=[_number(point.test["accuracy_points"]) for point in ours],
                s=size,
                marker=shape,
                cmap="cividis",
                norm=scale,
                edgecolors=colour,
                linewidths=1.2,
                plotnonfinite=True,
                zorder=3,
            )
    return drawn


def _place(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    validation = [point.validation for point in points]
    return [_number(values["gini"]) for values in validation], [
        _number(values["corrected_consistency"]) for values in validation
    ]


def _number(value: float | None) -> float:
    # matplotlib leaves a NaN out.
    return np.nan if value is None else value


def _accuracies(points: Sequence[Point]) -> list[float]:
    return [value for point in points if (value := point.test["accuracy_points"]) is not None]


def _networks(frontier: Frontier) -> list[str]:
    return sorted({point.network for point in (*frontier.points, *frontier.baselines)})


def _markers(frontier: Frontier) -> dict[str, str]:
    return {network: marker for network, (marker, _) in network_style(_networks(frontier)).items()}


def _subtitle(frontier: Frontier) -> str:
    feasible = sum(point.feasible for point in frontier.points)
    if feasible == 0:
        return say_none_feasible(frontier, between=" and\n")
    members = sum(point.on_frontier for point in frontier.points)
    told = f"scored: {len(frontier.points)}, feasible: {feasible}, on the frontier: {members}"
    return f"{told}\nfrontier in {say_ranking(frontier)}"


def _legend(frontier: Frontier, bands: Bands, knee: str | None) -> list[Artist]:
    styles = network_style(_networks(frontier))
    networks = [
        _key(f"{name} ({_count(frontier, name)} feasible)", marker=marker, colour=colour, size=7)
        for name, (marker, colour) in styles.items()
    ]
    star = _key("baseline (edge: its network's colour)", marker="*", colour=GREY, size=12)
    ring = _key("on the frontier", marker="o", colour="#202020", size=10)
    line = Line2D([], [], color="#404040", linewidth=1, label="frontier in C* and Gini alone")
    infeasible = sum(not point.feasible and point.status == "finished" for point in frontier.points)
    broken = _key(f"breaks a constraint ({infeasible})", marker="o", colour=GREY, size=4, filled=True)
    collapsed = _key(f"collapsed ({_told_collapsed(frontier)})", marker="x", colour=GREY, size=4)
    square = [] if knee is None else [_key("knee of that line", marker="s", colour="#202020", size=11)]
    band = band_keys(bands.attainment, "such a line of one seed")
    return [*networks, star, ring, line, *square, broken, collapsed, *band]


def _key(label: str, *, marker: str, colour: str, size: float, filled: bool = False) -> Line2D:
    face = colour if filled else "none"
    return Line2D(
        [], [], linestyle="none", marker=marker, markersize=size, color=colour, markerfacecolor=face, label=label
    )


def _count(frontier: Frontier, network: str) -> int:
    return sum(point.feasible and point.network == network for point in frontier.points)


def _told_collapsed(frontier: Frontier) -> str:
    total = sum(point.status == "collapsed" for point in frontier.points)
    return f"{total}, {frontier.outside} of them outside the axes" if frontier.outside else str(total)
