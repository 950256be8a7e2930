"""The image cache's file: Arrow, one record batch, one row per listed image, memory-mapped without a copy.

Written beside its final name, synced, then renamed; read only where all that is cheap to check agrees.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.utils.dlpack import from_dlpack

FORMAT_VERSION = 1
"""Raise it whenever the same images would give another file."""

# Rows whose checksum is compared on opening: about 2 ms, against seconds for all.
_ROWS_CHECKED = 16


@dataclass(frozen=True, kw_only=True)
class CacheSpec:
    """What a cache file must hold; equal specs share a file."""

    data_set: str
    side: int
    num_images: int
    has_masks: bool
    identity: Any
    """Anything JSON can hold that decides the pixels: names, sizes and times of files, a generator's settings."""

    @property
    def key(self) -> str:
        facts = [FORMAT_VERSION, self.data_set, self.side, self.num_images, self.has_masks, self.identity]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        return f"{self.data_set}-{self.side}px-{self.key[:16]}.arrow"

    @property
    def row_bytes(self) -> int:
        return (3 + self.has_masks) * self.side * self.side

    @property
    def schema(self) -> pa.Schema:
        """Height and width in original pixels, 0 where unreadable; box NaN where none; pixels RGB, one plane each."""
        fields = [
            pa.field("name", pa.string(), nullable=False),
            pa.field("content", pa.string(), nullable=False),
            pa.field("height", pa.int64(), nullable=False),
            pa.field("width", pa.int64(), nullable=False),
            pa.field("box", pa.list_(pa.float32(), 4), nullable=False),
            pa.field("unreadable", pa.string()),
            pa.field("box_unreadable", pa.string()),
            # CRC-32 of the pixels, and the mask after them.
            pa.field("checksum", pa.uint32(), nullable=False),
            pa.field("pixels", pa.binary(3 * self.side * self.side), nullable=False),
        ]
        if self.has_masks:
            fields.append(pa.field("mask", pa.binary(self.side * self.side), nullable=False))
        return pa.schema(fields)


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedImages:
    """An open cache, one entry per row.

    `images` and `masks` lie on a read-only map: writing to them ends the process.
    """

    images: UInt8[Tensor, "cached 3 side side"]
    masks: UInt8[Tensor, "cached side side"] | None
    heights: Int64[Tensor, " cached"]
    widths: Int64[Tensor, " cached"]
    boxes: Float32[Tensor, "cached 4"]
    names: tuple[str, ...]
    contents: tuple[str, ...]
    unreadable: tuple[str | None, ...]
    box_unreadable: tuple[str | None, ...]


def write_cache(path: Path, spec: CacheSpec, rows: dict[str, list[Any]], pixels: pa.Buffer) -> None:
    """Replaces `path` in one step; a killed process leaves the old file, or none, and a `.partial` beside it.

    Args:
        rows: The schema's small columns, by name.
        pixels: All rows' pixels, then, where there are any, all rows' masks.

    Raises:
        OSError: the folder cannot be written to, or its disk is full.
    """
    schema = spec.schema
    arrays = [pa.array(rows[field.name], field.type) for field in schema if field.name in rows]
    start = 0
    for field in schema.field("pixels"), *([schema.field("mask")] if spec.has_masks else []):
        size = spec.num_images * field.type.byte_width
        arrays.append(
            pa.FixedSizeBinaryArray.from_buffers(field.type, spec.num_images, [None, pixels.slice(start, size)])
        )
        start += size
    batch = pa.record_batch(arrays, schema=schema)
    schema = schema.with_metadata({"key": spec.key, "small_columns": _digest(batch)})
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(batch)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _digest(batch: pa.RecordBatch) -> str:
    small = [field.name for field in batch.schema if not pa.types.is_fixed_size_binary(field.type)]
    return hashlib.sha256(json.dumps(batch.select(small).to_pydict()).encode()).hexdigest()


def read_cache(path: Path, spec: CacheSpec) -> CachedImages | None:
    """None where the file is missing, torn, foreign or of another format."""
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            facts = reader.schema.metadata or {}
            if not reader.schema.equals(spec.schema) or facts.get(b"key") != spec.key.encode():
                return None
            if reader.num_record_batches != 1:
                return None
            batch = reader.get_batch(0)
            # Damaged offsets of strings would lead anywhere in memory.
            batch.validate(full=True)
    except (OSError, pa.ArrowException):
        return None
    if batch.num_rows != spec.num_images or facts.get(b"small_columns") != _digest(batch).encode():
        return None
    if not _rows_agree(batch):
        return None
    return CachedImages(
        images=_tensor(batch.column("pixels"), (-1, 3, spec.side, spec.side)),
        masks=_tensor(batch.column("mask"), (-1, spec.side, spec.side)) if spec.has_masks else None,
        heights=torch.tensor(batch.column("height").to_pylist()),
        widths=torch.tensor(batch.column("width").to_pylist()),
        boxes=torch.tensor(batch.column("box").to_pylist()),
        names=tuple(batch.column("name").to_pylist()),
        contents=tuple(batch.column("content").to_pylist()),
        unreadable=tuple(batch.column("unreadable").to_pylist()),
        box_unreadable=tuple(batch.column("box_unreadable").to_pylist()),
    )


def _rows_agree(batch: pa.RecordBatch) -> bool:
    """Whether the pixels and masks of evenly spaced rows are those that were written."""
    for row in np.linspace(0, batch.num_rows - 1, _ROWS_CHECKED, dtype=np.int64).tolist():
        values = batch.slice(row, 1).to_pylist()[0]
        checksum = zlib.crc32(values.get("mask", b""), zlib.crc32(values["pixels"]))
        if values["unreadable"] is None and checksum != values["checksum"]:
            return False
    return True


def _tensor(column: pa.FixedSizeBinaryArray, shape: tuple[int, ...]) -> Tensor:
    """The column's bytes where they lie. By DLPack, because `torch.frombuffer` warns of read-only memory."""
    data = column.buffers()[1]
    return from_dlpack(pa.Array.from_buffers(pa.uint8(), data.size, [None, data])).view(shape)
