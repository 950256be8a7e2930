"""Parquet tables of a run directory. What is torn, changed or of another schema is refused by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from gcc_search.errors import ResultsError
from gcc_search.results.files import REDO, check_version, read_bytes, told_by_name
from gcc_search.results.schema import SCHEMA_VERSION, SINCE_2
from gcc_search.results.seal import TAIL_BYTES, ends_are_whole, is_whole, read_sealed

NOT_WRITTEN = "the trial has not written it"
_VERSION_KEY = b"gcc_search.schema_version"


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet table of ours, its seal verified over the whole file, only `columns` of it where given.

    Columns that an older version did not have yet are there, without values.

    Raises:
        ResultsError: missing, torn, changed by a single bit, or not of this schema.
    """
    content = read_bytes(path, missing=NOT_WRITTEN)
    _check_whole(path, is_whole(content))
    table = read_sealed(content, columns)
    version = _table_version(table)
    check_version(path, version)
    expected = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    if version == 1:
        table = _with_later_columns(table, expected)
    if not table.schema.equals(expected):
        raise ResultsError(f"{path}: columns must be those of schema version {SCHEMA_VERSION}, got others; {REDO}")
    return table


def _with_later_columns(table: pa.Table, expected: pa.Schema) -> pa.Table:
    for place, field in enumerate(expected):
        if field.name in SINCE_2 and field.name not in table.column_names:
            table = table.add_column(place, field, pa.nulls(len(table), field.type))
    return table


def check_table(path: Path) -> None:
    """Passes a table that is there and looks whole, for tables that nothing is read from.

    The rule: what is read is verified to the last bit before it is parsed (`read_table`). Of what is not read, the
    first bytes and the last `TAIL_BYTES` are looked at, which is all of a short file: an epochs.parquet, as a rule.

    Raises:
        ResultsError: missing, cut short, grown, zeroed at an end, no table of ours, or of another schema version.
    """
    with told_by_name(path, missing=NOT_WRITTEN), path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(4)
        file.seek(max(size - TAIL_BYTES, 0))
        tail = file.read()
    _check_whole(path, ends_are_whole(head, tail, size))
    check_version(path, _version_in_footer(tail))


def table_problem(path: Path) -> str | None:
    """What `check_table` says of it; None where it passes."""
    try:
        check_table(path)
    except ResultsError as error:
        return str(error)
    return None


def _check_whole(path: Path, is_so: bool) -> None:
    if not is_so:
        raise ResultsError(f"{path}: must be whole Parquet, got a torn or changed file; {REDO}")


def _version_in_footer(tail: bytes) -> int | None:
    """Parquet's footer (Thrift's compact protocol) has a type and a length, a byte each, between key and value."""
    _, key, rest = tail.rpartition(_VERSION_KEY)
    told = rest[2 : 2 + rest[1]] if key else b""
    return int(told) if told.isdigit() else None


def _table_version(table: pa.Table) -> int | str | None:
    version: bytes | None = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version is None:
        return None
    return int(version) if version.isdigit() and len(version) < 9 else version.decode(errors="replace")
