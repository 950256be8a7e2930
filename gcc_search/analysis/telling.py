"""What the figures say in words: lines for the screen and for the report alike."""

from __future__ import annotations

from gcc_search.analysis.against_paper import AgainstPaper
from gcc_search.analysis.bands import Bands
from gcc_search.analysis.bands_figure import say_band
from gcc_search.analysis.boundary import Boundary
from gcc_search.analysis.boundary_figure import key_of, say_band_of_p, say_place_on_axes
from gcc_search.analysis.boundary_standing import say_shift
from gcc_search.analysis.comparison import Comparison
from gcc_search.analysis.measures import label_of
from gcc_search.analysis.parameters import say_unit
from gcc_search.analysis.seeds import INTERVAL
from gcc_search.analysis.table import short_scientific
from gcc_search.analysis.tradeoff_figure import say_published


def tell_table_1_of_paper(paper: AgainstPaper | None, item: Comparison) -> list[str]:
    """The paper's Table 1 beside `item`; nothing where it has no such cells, or was not asked for."""
    found = () if paper is None else paper.lines
    lines = [line for line in found if (line.published.data, line.published.network) == (item.data, item.network)]
    told = ["the paper's Table 1, baseline / ours (here minus paper):"] if lines else []
    for line in lines:
        digits = 3 if line.published.measure == "insertion AUC" else 2
        published = f"{line.published.baseline.value:.2f} / {line.published.ours.value:.2f}"
        differences = f"{line.baseline_difference:+.{digits}f} / {line.ours_difference:+.{digits}f}"
        told.append(f"  {label_of(line.published.measure)}: {published} ({differences})")
    return told


def tell_paper(paper: AgainstPaper | None) -> list[str]:
    """What can be compared with the paper at all, and the rest of its numbers that have a counterpart."""
    if paper is None:
        return []
    told = [*paper.notes]
    told += [f"Fig. 3, accuracy tradeoff, {found.network}: {say_published(found)}" for found in paper.tradeoffs]
    for row in paper.series:
        fixed = ", ".join(f"{name} {value:g}" for name, value in row.fixed)
        cells = " | ".join(f"{place:g}: {published.value:.2f}" for place, published in sorted(row.points))
        told.append(f"Table 2, {row.network}, {row.parameter} ({fixed}): {cells}")
    return told


def tell_bands(bands: Bands) -> list[str]:
    """Hypervolume at the end of the shortest seed's search, over seeds."""
    if bands.growth is None:
        return [f"hypervolume: {bands.growth_missing}"]
    band = bands.growth
    interval = f"{band.mean[-1]:.4f} ({band.low[-1]:.4f} to {band.high[-1]:.4f}: {INTERVAL})"
    return [f"hypervolume: mean of {len(band.seeds)} seeds {interval}", f"  {say_band(bands)}"]


def tell_boundary(boundary: Boundary) -> list[str]:
    """Where half of the networks fail, and how that place moves; nothing where no boundary could be fitted."""
    standing = [(panel, panel.standing) for panel in boundary.panels if panel.standing is not None]
    told = key_of(boundary) if standing else []
    for panel, found in standing:
        beta = f"beta{say_unit(panel.sparsity)} {short_scientific(10**found.log_beta)}"
        where = f"{panel.network}, {say_band_of_p(panel)}, {beta}"
        told += [f"  {where}: {say_place_on_axes(panel)}", f"    {say_shift(found)}".replace("\n", " ")]
    return told
