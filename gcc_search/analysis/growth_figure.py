"""Draws a `Growth`: hypervolume over device time. Computes nothing of its own."""

from __future__ import annotations

from matplotlib.figure import Figure

from gcc_search.analysis.figures import COLOURS, GREY
from gcc_search.analysis.growth import Growth

SECONDS_PER_HOUR = 3600.0


def draw_growth(growth: Growth, *, title: str) -> Figure:
    """A staircase over the device hours of all trials; a dot where a trial joined the frontier of its time."""
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    hours = [step.device_seconds / SECONDS_PER_HOUR for step in growth.steps]
    axes.step([0.0, *hours], [0.0, *(step.hypervolume for step in growth.steps)], where="post", color=COLOURS[0])
    joined = [index for index, step in enumerate(growth.steps) if step.joined_frontier]
    volumes = [growth.steps[index].hypervolume for index in joined]
    axes.scatter(
        [hours[index] for index in joined], volumes, s=26, color=COLOURS[1], zorder=3, label="joined the frontier"
    )
    others = [index for index, step in enumerate(growth.steps) if not step.joined_frontier]
    ticks = [hours[index] for index in others]
    heights = [0.02] * len(others)
    axes.scatter(
        ticks, heights, s=30, marker="|", color=GREY, transform=axes.get_xaxis_transform(), label="another trial ended"
    )
    axes.set(
        xlabel="device time of all trials that ended, hours",
        ylabel="hypervolume of feasible trials,\nvalidation split (0 to 1, higher is better)",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    ranges = zip(growth.metrics, growth.reference, growth.best, strict=True)
    axes.set_title(
        f"{title}\n{', '.join(f'{name} {low:g} to {high:g}' for name, low, high in ranges)}", loc="left", fontsize=9
    )
    figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    return figure
