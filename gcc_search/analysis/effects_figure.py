"""Draws `Effect`s: a column per parameter, a row per measure. Computes nothing of its own."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gcc_search.analysis.effects import EFFECTS_UNITS, Bin, Effect, EffectPoint
from gcc_search.analysis.figures import GOLDEN, GREY, network_style

UNTRAINED = {"collapsed": "x", "diverged": "+"}


def draw_effects(effects: Sequence[Effect], *, title: str) -> Figure:
    """Each finished trial a dot; a line through trials that differ in one parameter alone, or through means of bins."""
    columns = max(len(effects), 1)
    figure = Figure(figsize=(max(2.6 * columns + 1.6, 6.4), 8.0), layout="constrained")
    panels = figure.subplots(len(EFFECTS_UNITS), columns, sharex="col", sharey="row", squeeze=False)
    styles = network_style(sorted({point.network for effect in effects for point in effect.points}))
    for column, effect in enumerate(effects):
        for row, measure in enumerate(EFFECTS_UNITS):
            _draw_panel(panels[row, column], effect, measure, styles)
        _label_parameter(panels[-1, column], effect)
    for row, unit in enumerate(EFFECTS_UNITS.values()):
        panels[row, 0].set_ylabel(unit, fontsize=9)
    figure.suptitle(f"{title}\n{_subtitle(effects)}", x=0.02, ha="left", fontsize=10)
    figure.legend(handles=_legend(effects, styles), loc="outside lower left", ncols=3, fontsize=8)
    return figure


def _draw_panel(axes: Axes, effect: Effect, measure: str, styles: dict[str, tuple[str, str]]) -> None:
    for network, (marker, colour) in styles.items():
        finished = [p for p in effect.points if p.network == network and p.status == "finished"]
        alpha = 0.35 if effect.bins else 0.9
        across, values = _places(finished, measure)
        if effect.parameter.choices:
            across = [place + 0.5 * ((index * GOLDEN) % 1 - 0.5) for index, place in enumerate(across)]
        axes.scatter(across, values, s=14, marker=marker, color=colour, alpha=alpha, linewidths=0)
        _draw_bins(axes, [b for b in effect.bins if (b.network, b.measure) == (network, measure)], colour)
        for series in effect.series:
            if series.network == network:
                points = [point for point in series.points if point.status == "finished"]
                axes.plot(*_places(points, measure), color=colour, linewidth=0.9, alpha=0.8)
    for status, marker in UNTRAINED.items():
        places = [point.place for point in effect.points if point.status == status]
        # Along the lower edge: the values of a network that did not train would squeeze all others.
        heights = [0.03] * len(places)
        axes.scatter(places, heights, s=22, marker=marker, color="#202020", transform=axes.get_xaxis_transform())


def _draw_bins(axes: Axes, bins: Sequence[Bin], colour: str) -> None:
    middles = [found.middle for found in bins]
    axes.plot(middles, [found.mean for found in bins], color=colour, linewidth=1.8, marker=".", zorder=3)
    quartiles = ([found.quartile_1 for found in bins], [found.quartile_3 for found in bins])
    axes.fill_between(middles, *quartiles, color=colour, alpha=0.15, linewidth=0)


def _places(points: Sequence[EffectPoint], measure: str) -> tuple[list[float], list[float]]:
    known = [(point.place, value) for point in points if (value := point.values[measure]) is not None]
    return [place for place, _ in known], [value for _, value in known]


def _label_parameter(axes: Axes, effect: Effect) -> None:
    parameter = effect.parameter
    if parameter.choices:
        axes.set_xticks(range(len(parameter.choices)), parameter.choices, fontsize=8)
    if parameter.is_log:
        axes.set_xscale("log")
    axes.set_xlim(effect.axis_range)
    axes.set_xlabel(parameter.label + (" (log scale)" if parameter.is_log else ""))


def _subtitle(effects: Sequence[Effect]) -> str:
    if not effects:
        return "no parameter takes more than one value"
    # Two lines: one is wider than a figure of two parameters.
    return "what each parameter does, on the test split\ncrosses along the lower edges: networks that did not train"


def _legend(effects: Sequence[Effect], styles: dict[str, tuple[str, str]]) -> list[Artist]:
    dots: list[Artist] = [
        Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=5, label=name)
        for name, (marker, colour) in styles.items()
    ]
    untrained = [
        Line2D([], [], linestyle="none", marker=marker, color="#202020", markersize=5, label=f"{status} (place only)")
        for status, marker in UNTRAINED.items()
        if any(point.status == status for effect in effects for point in effect.points)
    ]
    binned = any(effect.bins for effect in effects)
    lines: list[Artist] = (
        [Line2D([], [], color=GREY, linewidth=1.8, marker=".", label="mean of a bin")] if binned else []
    )
    if binned:
        lines.append(Patch(color=GREY, alpha=0.3, label="quartiles of a bin"))
    if any(effect.series for effect in effects):
        lines.append(Line2D([], [], color=GREY, linewidth=0.9, label="all other settings equal"))
    return [*dots, *untrained, *lines]
