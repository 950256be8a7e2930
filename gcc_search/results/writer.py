"""Writes a run directory. Every file appears whole or not at all, and carries a sha256 of its own content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from gcc_search.atomic import write_atomically
from gcc_search.results.schema import EPOCHS, HEATMAPS, IMAGES, PAIRS, EpochRow, RunRecord, TrialRecord
from gcc_search.results.seal import sealed_parquet


def checksum(content: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of `content`, without its own `sha256` entry."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """JSON with a `sha256` entry that `reader.read_json` checks. NaN is not JSON and is refused (ValueError)."""
    plain = json.loads(json.dumps(content, allow_nan=False, default=str))
    text = json.dumps({**plain, "sha256": checksum(plain)}, indent=1)
    write_atomically(path, text.encode())


def write_run(folder: Path, record: RunRecord) -> None:
    write_json(folder / "run.json", asdict(record))


def write_trial(folder: Path, record: TrialRecord) -> None:
    write_json(folder / "trial.json", asdict(record))


def write_epochs(folder: Path, rows: Iterable[EpochRow]) -> None:
    """Rewrites epochs.parquet: a few kilobytes, so the whole file each epoch is cheaper than a log to repair."""
    table = pa.Table.from_pylist([row.to_dict() for row in rows], schema=EPOCHS)
    _write_table(folder / "epochs.parquet", table)


def write_images(folder: Path, columns: Mapping[str, Any]) -> None:
    write_image_table(folder / "images.parquet", columns)


def write_image_table(path: Path, columns: Mapping[str, Any]) -> None:
    """An images.parquet from arrays by column name; NaN is written as null in columns that may be missing."""
    _write_columns(path, columns, IMAGES)


def write_pair_table(path: Path, columns: Mapping[str, Any]) -> None:
    """COSE's pairs from arrays by column name; NaN as above."""
    _write_columns(path, columns, PAIRS)


def write_heatmaps(folder: Path, columns: Mapping[str, Any]) -> None:
    """heatmaps.parquet from lists by column name."""
    arrays = [pa.array(columns[field.name], type=field.type) for field in HEATMAPS]
    _write_table(folder / "heatmaps.parquet", pa.Table.from_arrays(arrays, schema=HEATMAPS))


def _write_columns(path: Path, columns: Mapping[str, Any], schema: pa.Schema) -> None:
    arrays = [pa.array(columns[field.name], type=field.type, from_pandas=field.nullable) for field in schema]
    _write_table(path, pa.Table.from_arrays(arrays, schema=schema))


def _write_table(path: Path, table: pa.Table) -> None:
    write_atomically(path, sealed_parquet(table))
