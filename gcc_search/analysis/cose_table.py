"""COSE of one network for people: a Markdown table, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from gcc_search.analysis.comparison_table import ARROWS
from gcc_search.analysis.cose import PairMean

HEADINGS = ("similarity of heatmaps", "mean", "± s.e.", "pairs", "images")

KEY = (
    "consistency: the prediction is right, and still is under the transform | sensitivity: it was right,\n"
    "and is another one under a transform or random weights | COSE = sqrt(consistency (1 - sensitivity))\n"
    "± standard error over images | a transform that has an amount counts six times"
)


def cose_table(means: Sequence[PairMean]) -> Table:
    """A row for each mean, its parts set in below it; "-" where there is no such pair."""
    table = Table(box=box.MARKDOWN, padding=(0, 1))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right", no_wrap=True)
    for mean in means:
        name = f"{'  ' * mean.level}{mean.name} {ARROWS[mean.better]}"
        counts = (str(mean.num_pairs), str(mean.num_images))
        table.add_row(*map(Text, (name, _fixed(mean.value), _fixed(mean.standard_error), *counts)))
    return table


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
