"""The results file as tables that people read: each list of rows in it, with numbers of three digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def in_markdown(results: dict[str, Any]) -> str:
    """A heading and a table for every list of rows, wherever it stands; what else there is of a section, as a line."""
    lines = [f"# {results['date']}, {results['hardware']}", "", f"`{results['command']}`", ""]
    lines += [", ".join(f"{name} {version}" for name, version in results["versions"].items()), ""]
    for title, rows in _tables(results):
        columns = list(rows[0])
        lines += [f"## {title}", "", _row(columns), _row(["---"] * len(columns))]
        lines += [_row([_cell(row.get(column)) for column in columns]) for row in rows]
        lines += [""]
    return "\n".join(lines)


def _tables(section: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, value in section.items():
        here = (*path, name)
        if isinstance(value, dict):
            yield from _tables(value, here)
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            yield " / ".join(here), value


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict | list):
        return f"{len(value)} values"
    return "-" if value is None else str(value)
