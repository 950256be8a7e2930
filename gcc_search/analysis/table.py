"""Rows as CSV for machines, and as a table of at most 100 columns for people."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from gcc_search.analysis.best import Row
from gcc_search.analysis.varied import say_varied

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
# Of the column `also`: no more is written, and networks' names give way to this much of it, `seed 0…`.
MOST_ALSO, SHORTEST_ALSO = 24, 7

ALSO = "also"
# Heading, field of Row, how it is written. A unit or split stands on the heading's first line. `also` is no field:
# it is told of all rows together.
COLUMNS: tuple[tuple[str, str, Format], ...] = (
    ("\n#", "rank", str),
    ("\ntrial", "trial", str),
    ("\nnetwork", "network", str),
    ("\nalpha", "alpha", short_scientific),
    ("\nbeta", "beta", short_scientific),
    ("\np", "p", _fixed(2)),
    ("\nalso", ALSO, str),
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
    "where there are any: const: share of constant maps; also: other settings that are not all the same"
)


def best_table(rows: Sequence[Row], *, limit: int) -> Table:
    """Baselines and the first `limit` ranked rows, frontier members starred; a column that no row fills is left out."""
    shown = [row for row in rows if row.rank is None or row.rank <= limit]
    also = say_varied(shown)
    columns = [c for c in COLUMNS if _is_told(shown, c[1], also)]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    cells = {name: also if name == ALSO else [_text(row, name, write) for row in shown] for _, name, write in columns}
    widths = {name: max(map(len, [*heading.split("\n"), *cells[name]])) for heading, name, _ in columns}
    if not shown:
        return table
    widths |= _fitted(widths, shortest=SHORTEST_TRIAL if any("/" in row.trial for row in shown) else SHORTEST_END + 1)
    if "network" in cells and widths["network"] < (told_apart := _least_width({*cells["network"]})):
        widths[ALSO], widths["network"] = widths[ALSO] + widths["network"] - told_apart, told_apart
    for heading, name, _ in columns:
        side: JustifyMethod = "left" if name in ("trial", "network", ALSO) else "right"
        table.add_column(Text(heading), justify=side, no_wrap=True, overflow="ellipsis", width=widths[name])
    cells["trial"] = [_cut(name, widths["trial"]) for name in cells["trial"]]
    if "network" in cells:
        cells["network"] = [_keep_ends(name, widths["network"]) for name in cells["network"]]
    elif shown:
        table.caption, table.caption_justify = f"network: {shown[0].network}", "left"
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _fitted(widths: Mapping[str, int], *, shortest: int) -> dict[str, int]:
    """How wide the columns of words are: half a number would be another number, so that these give way."""
    room = WIDTH - sum(width + 1 for name, width in widths.items() if name not in ("trial", ALSO)) - 1
    if ALSO not in widths:
        return {"trial": min(widths["trial"], max(room, SHORTEST_TRIAL))}
    least = min(widths[ALSO], SHORTEST_ALSO)
    lacking = max(shortest + 1 + least - room, 0) if "network" in widths else 0
    also = min(widths[ALSO], MOST_ALSO, max(room + lacking - shortest - 1, 0))
    found = {"trial": min(widths["trial"], max(room + lacking - also - 1, shortest)), ALSO: also}
    return found | ({"network": widths["network"] - lacking} if lacking else {})


def _is_told(rows: Sequence[Row], name: str, also: Sequence[str]) -> bool:
    if name in ("rank", ALSO):
        return name == "rank" or bool(also)
    values = [getattr(row, name) for row in rows]
    if name == "network" and also:
        # The same in all rows, it leaves its room to what is not; trials' names begin with it.
        return len(set(values)) > 1
    return any(values) if name == "degenerate_fraction" else any(value is not None for value in values)


def _cut(name: str, width: int) -> str:
    """Of a trial's name its end; before it, where several runs are read together, both ends of its run's name."""
    run, slash, trial = name.rpartition("/")
    end = min(len(trial), max(width - len(run + slash), SHORTEST_END))
    room = width - end - len(slash)
    return _keep_ends(run, room) + slash + _keep(trial, start=0, end=end - 1)


def _least_width(names: set[str]) -> int:
    """At which they are still told apart."""
    return next(width for width in itertools.count(3) if len({_keep_ends(name, width) for name in names}) == len(names))


def _keep_ends(text: str, width: int) -> str:
    return _keep(text, start=(width - 1) // 2, end=width // 2)


def _keep(text: str, *, start: int, end: int) -> str:
    """`text`, or so many of its first and last letters."""
    return text if len(text) <= start + 1 + end else f"{text[:start]}…{text[len(text) - end :]}"


def _text(row: Row, name: str, write: Format) -> str:
    value = getattr(row, name)
    if name == "rank":
        return f"{value}{'*' if row.on_frontier else ' '}" if value is not None else "base "
    return "-" if value is None else write(value)
