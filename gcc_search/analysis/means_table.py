"""The measures of one network for people: a Markdown table, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from gcc_search.analysis.comparison_table import ARROWS, digits_of
from gcc_search.analysis.measures import Mean, label_of


def means_table(means: Sequence[Mean]) -> Table:
    """A row per measure: mean and standard error over the images, unit, number of images."""
    table = Table(box=box.MARKDOWN, padding=(0, 1))
    for heading in ("measure", "mean", "± s.e.", "unit", "images"):
        table.add_column(heading, justify="left" if heading in ("measure", "unit") else "right", no_wrap=True)
    for mean in means:
        table.add_row(*map(Text, _cells(mean)))
    return table


def _cells(mean: Mean) -> tuple[str, ...]:
    digits = digits_of(mean)
    error = "-" if mean.standard_error is None else f"{mean.standard_error:.{digits}f}"
    name = f"{label_of(mean.measure)} {ARROWS[mean.better]}"
    return name, f"{mean.value:.{digits}f}", error, mean.unit, str(mean.num_images)
