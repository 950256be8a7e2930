"""Draws a `Band` into the axes of another figure. Computes nothing of its own."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gcc_search.analysis.bands import Band, Bands
from gcc_search.analysis.figures import COLOURS
from gcc_search.analysis.seeds import INTERVAL

# Sky blue of the palette: no network of a search of up to five has it.
COLOUR = COLOURS[5]
SECONDS_PER_HOUR = 3600.0
# With fewer, Student's t is so wide that the seeds' own lines say more.
SEEDS_FOR_A_BAND_ALONE = 4


def draw_band(axes: Axes, band: Band, *, unit: float = 1.0) -> None:
    """The seeds' mean as a dashed line in its 95 % band, their own lines where they are few; places over `unit`."""
    across = [place / unit for place in band.places]
    for curve in _own_lines(band):
        axes.plot(across, curve, color=COLOUR, linewidth=0.9, zorder=1.2)
    axes.fill_between(across, band.low, band.high, color=COLOUR, alpha=0.3, linewidth=0, zorder=1.1)
    axes.plot(across, band.mean, color=COLOUR, linewidth=1.6, linestyle="--", zorder=1.2)


def band_keys(band: Band | None, what: str) -> list[Artist]:
    """Entries of a legend; none without a band. `what` each seed's curve is."""
    if band is None:
        return []
    mean = Line2D([], [], color=COLOUR, linewidth=1.6, linestyle="--", label=f"{what}, mean of {len(band.seeds)} seeds")
    own = [Line2D([], [], color=COLOUR, linewidth=0.9, label="the seeds' own")] if _own_lines(band) else []
    return [mean, *own, Patch(color=COLOUR, alpha=0.3, label=f"band of the mean: {INTERVAL}")]


def _own_lines(band: Band) -> tuple[tuple[float, ...], ...]:
    return band.curves if len(band.seeds) < SEEDS_FOR_A_BAND_ALONE else ()


def say_band(bands: Bands) -> str:
    """Which part of each seed's search the band is over."""
    return (
        f"band: the first {bands.device_seconds / SECONDS_PER_HOUR:.3g} device hours of each seed, the shortest's total"
    )
