"""Draws a `Growth` and the band of its seeds: hypervolume over device time. Computes nothing of its own."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gcc_search.analysis.bands import Bands
from gcc_search.analysis.bands_figure import SECONDS_PER_HOUR, band_keys, draw_band, say_band
from gcc_search.analysis.figures import COLOURS, GREY
from gcc_search.analysis.growth import Growth


def draw_growth(growth: Growth, *, bands: Bands, title: str) -> Figure:
    """A staircase over the device hours of all trials; a dot where a trial joined the frontier of its time."""
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    drawn = _draw_steps(axes, growth)
    if bands.growth is not None:
        draw_band(axes, bands.growth, unit=SECONDS_PER_HOUR)
    axes.set(
        xlabel="device time of all trials that ended, hours" + ("" if bands.growth is None else " (band: of one seed)"),
        ylabel="hypervolume of feasible trials,\nvalidation split (0 to 1, higher is better)",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(0, _top(growth, bands))
    axes.set_title(f"{title}\n{_reference(growth)}\n{bands.growth_missing or say_band(bands)}", loc="left", fontsize=9)
    keys = [*drawn, *band_keys(bands.growth, "one seed alone")]
    figure.legend(handles=keys, loc="outside lower left", ncols=2, fontsize=8)
    return figure


def _top(growth: Growth, bands: Bands) -> float | None:
    """Of the axis: room above the highest curve. A band of few seeds may reach far beyond it."""
    curves = () if bands.growth is None else bands.growth.curves
    highest = max([*(step.hypervolume for step in growth.steps), *(max(curve) for curve in curves)], default=0.0)
    return 1.2 * highest or None


def _draw_steps(axes: Axes, growth: Growth) -> list[Artist]:
    """The legend's entries."""
    hours = [step.device_seconds / SECONDS_PER_HOUR for step in growth.steps]
    volumes = [step.hypervolume for step in growth.steps]
    (stairs,) = axes.step([0.0, *hours], [0.0, *volumes], where="post", color=COLOURS[0], label="all trials")
    joined = [index for index, step in enumerate(growth.steps) if step.joined_frontier]
    dots = axes.scatter(
        [hours[index] for index in joined],
        [volumes[index] for index in joined],
        s=26,
        color=COLOURS[1],
        zorder=3,
        label="joined the frontier",
    )
    others = [hours[index] for index, step in enumerate(growth.steps) if not step.joined_frontier]
    ticks = axes.scatter(
        others,
        [0.02] * len(others),
        s=30,
        marker="|",
        color=GREY,
        transform=axes.get_xaxis_transform(),
        label="another trial ended",
    )
    return [stairs, dots, ticks]


def _reference(growth: Growth) -> str:
    """The reference point, and what counts 1 on each axis; as many metrics a line as have room."""
    ranges = zip(growth.metrics, growth.reference, growth.best, strict=True)
    words = [f"{name} {low:g} to {high:g}" for name, low, high in ranges]
    lines = [", ".join(words[start : start + 3]) for start in range(0, len(words), 3)]
    return "from the reference point to the best value: " + ",\n".join(lines)
