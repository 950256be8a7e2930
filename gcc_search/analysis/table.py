"""Rows as CSV for machines, and as a table of at most 100 columns for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from gcc_search.analysis.best import Row

Format = Callable[[Any], str]


def to_csv(rows: Sequence[Mapping[str, Any]], header: Sequence[str] = ()) -> bytes:
    """UTF-8 with a header line from the first row's keys, or `header` where there is no row.

    Empty is None; numbers keep every digit; lists are JSON.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else list(header), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list | tuple | bool) else value


def short_scientific(value: float) -> str:
    """`1.2e-3`: two digits say which decade and where in it. 0 is 0: the term is off."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _fixed(digits: int) -> Format:
    return lambda value: f"{value:.{digits}f}"


WIDTH = 100
# Trials' names, longer in baselines' keys, are cut to what room is left: their ends tell them apart.
SHORTEST_TRIAL = 8
# What is left of it beside a long name of a run: `…0003`.
SHORTEST_END = 5

# Heading, field of Row, how it is written. A unit or split stands on the heading's first line.
COLUMNS: tuple[tuple[str, str, Format], ...] = (
    ("\n#", "rank", str),
    ("\ntrial", "trial", str),
    ("\nnetwork", "network", str),
    ("\nalpha", "alpha", short_scientific),
    ("\nbeta", "beta", short_scientific),
    ("\np", "p", _fixed(2)),
    ("val\nC*", "validation_corrected_consistency", _fixed(3)),
    ("test\nacc %", "accuracy_points", _fixed(2)),
    ("test\nlost", "tradeoff_points", lambda value: f"{value:+.2f}"),
    ("test\ncons", "consistency", _fixed(3)),
    ("test\nC*", "corrected_consistency", _fixed(3)),
    ("test\nconst", "degenerate_fraction", _fixed(3)),
    ("test\ngini", "gini", _fixed(3)),
    ("test\niauc", "iauc", _fixed(2)),
    ("test\nbox", "box_mass", _fixed(2)),
)

LEGEND = (
    "* on the frontier | val, test: split | C*: corrected consistency | lost: accuracy tradeoff, points\n"
    "(negative: gained) | cons: consistency, mean SSIM | iauc: insertion AUC | box: mass on the object\n"
    "const: share of constant maps, where there are any"
)


def best_table(rows: Sequence[Row], *, limit: int) -> Table:
    """Baselines and the first `limit` ranked rows, frontier members starred; a column that no row fills is left out."""
    shown = [row for row in rows if row.rank is None or row.rank <= limit]
    columns = [c for c in COLUMNS if c[1] == "rank" or any(_is_told(row, c[1]) for row in shown)]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    cells = {name: [_text(row, name, write) for row in shown] for _, name, write in columns}
    widths = {name: max(map(len, [*heading.split("\n"), *cells[name]])) for heading, name, _ in columns}
    room = WIDTH - sum(width + 1 for name, width in widths.items() if name != "trial") - 1
    # Where room is short, the trial's name gives way; half a number would be another number.
    widths["trial"] = min(widths["trial"], max(room, SHORTEST_TRIAL))
    for heading, name, _ in columns:
        side: JustifyMethod = "left" if name in ("trial", "network") else "right"
        table.add_column(Text(heading), justify=side, no_wrap=True, overflow="ellipsis", width=widths[name])
    cells["trial"] = [_cut(name, widths["trial"]) for name in cells["trial"]]
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _is_told(row: Row, name: str) -> bool:
    value = getattr(row, name)
    return bool(value) if name == "degenerate_fraction" else value is not None


def _cut(name: str, width: int) -> str:
    """Of a trial's name its end; before it, where several runs are read together, both ends of its run's name."""
    run, slash, trial = name.rpartition("/")
    end = min(len(trial), max(width - len(run + slash), SHORTEST_END))
    room = width - end - len(slash)
    return _keep(run, start=(room - 1) // 2, end=room // 2) + slash + _keep(trial, start=0, end=end - 1)


def _keep(text: str, *, start: int, end: int) -> str:
    """`text`, or so many of its first and last letters."""
    return text if len(text) <= start + 1 + end else f"{text[:start]}…{text[len(text) - end :]}"


def _text(row: Row, name: str, write: Format) -> str:
    value = getattr(row, name)
    if name == "rank":
        return f"{value}{'*' if row.on_frontier else ' '}" if value is not None else "base "
    return "-" if value is None else write(value)
