"""Each data set decoded once per machine, into one memory-mapped Arrow file whose pages all trials share.

The file is one record batch with one row per listed image, readable or not: an image that cannot be decoded keeps its
row and its reason, and is never tried again. Its name ends in a key that is computed without opening any image, so
that an existing cache opens in milliseconds.

Written beside its final name, synced, then renamed; one process builds while others wait. A file that is torn, foreign
or of another format is built anew, never read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from gcc_search.errors import DataError

FORMAT_VERSION = 1
"""Raise it whenever the same images would give another file."""

Progress = Callable[[int, int], None]
"""Told (images done, images in all)."""

Box = tuple[float, float, float, float]
"""Top, left, height, width, as fractions of the whole image, in [0, 1]."""

# Evenly spaced rows whose pixels are compared with their checksum on opening: about 2 ms, against seconds for all.
_ROWS_CHECKED = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One row of the cache: an image squashed to side x side, or the reason why there is none."""

    name: str
    content: str
    """SHA-256 of what the pixels come from, in hex."""
    pixels: NDArray[np.uint8] | None = None
    """(3, side, side); None where the image is unreadable."""
    mask: NDArray[np.uint8] | None = None
    """(side, side), 255 on the object."""
    height: int = 0
    width: int = 0
    """Of the original, in pixels, as a viewer shows it; 0 where unreadable."""
    box: Box | None = None
    unreadable: str | None = None
    """Why the image cannot be used."""
    box_unreadable: str | None = None
    """Why its annotation cannot; the image is used without a box."""


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


def cache_folder(chosen: Path | None = None) -> Path:
    """`chosen`, else $GCC_SEARCH_CACHE, else ~/.cache/gcc-search."""
    if chosen is not None:
        return chosen
    return Path(os.environ.get("GCC_SEARCH_CACHE") or "~/.cache/gcc-search").expanduser()


def open_cache(
    spec: CacheSpec, make: Callable[[int], Picture], *, folder: Path | None = None, progress: Progress | None = None
) -> CachedImages:
    """The images of `spec`, from its file where there is a sound one, else from `make(row)` in several threads.

    Raises:
        DataError: the folder cannot be written to, or its disk is full; whatever `make` raises passes through.
    """
    path = cache_folder(folder) / spec.file_name
    cached = _read(path, spec)
    if cached is not None:
        return cached
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_suffix(".lock")):
            # Another process may have built it while this one waited.
            cached = _read(path, spec)
            if cached is None:
                _build(path, spec, make, progress or (lambda done, total: None))
    except OSError as error:
        raise _unwritable(path.parent, error.strerror or str(error)) from error
    cached = cached or _read(path, spec)
    if cached is None:
        raise _unwritable(path.parent, f"another content than was just written to {path.name}")
    return cached


@contextlib.contextmanager
def exclusive(lock_file: Path) -> Iterator[None]:
    """Waits until no other process holds `lock_file`; a killed process lets go of it."""
    with lock_file.open("w") as file:
        # Some network file systems cannot lock: then both build, and the last rename wins, which is slower but sound.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unwritable(folder: Path, got: str) -> DataError:
    return DataError(
        f"{folder}: image cache must be a writable folder with room for the decoded images, got: {got}; "
        "set GCC_SEARCH_CACHE to a folder on another disk"
    )


def _build(path: Path, spec: CacheSpec, make: Callable[[int], Picture], progress: Progress) -> None:
    needed, free = 2 * spec.num_images * spec.row_bytes, shutil.disk_usage(path.parent).free
    if free < needed:
        raise _unwritable(path.parent, f"{free / 1e9:.1f} GB free of the {needed / 1e9:.1f} GB that building it takes")
    # One record batch needs all of its rows, and they may not fit into memory: a nameless file holds them meanwhile.
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        scratch.truncate(spec.num_images * spec.row_bytes)
        rows = _fill(scratch.fileno(), spec, make, progress)
        with mmap.mmap(scratch.fileno(), 0, access=mmap.ACCESS_READ) as pixels:
            _write(path, spec, rows, pa.py_buffer(pixels))


def _fill(scratch: int, spec: CacheSpec, make: Callable[[int], Picture], progress: Progress) -> dict[str, list[Any]]:
    """The small columns. Pixels go straight to `scratch`: of all rows first, then all masks."""
    pixel_bytes, mask_bytes = 3 * spec.side**2, spec.side**2

    def work(row: int) -> dict[str, Any]:
        picture = make(row)
        checksum = 0
        if picture.pixels is not None:
            pixels = picture.pixels.tobytes()
            _write_at(scratch, pixels, row * pixel_bytes)
            checksum = zlib.crc32(pixels)
        if picture.mask is not None:
            _write_at(scratch, picture.mask.tobytes(), spec.num_images * pixel_bytes + row * mask_bytes)
        return {
            "name": picture.name,
            "content": picture.content,
            "height": picture.height,
            "width": picture.width,
            "box": picture.box or (float("nan"),) * 4,
            "unreadable": picture.unreadable,
            "box_unreadable": picture.box_unreadable,
            "checksum": checksum,
        }

    rows = []
    # Pillow decodes and resizes without Python's lock.
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        for row in threads.map(work, range(spec.num_images)):
            rows.append(row)
            progress(len(rows), spec.num_images)
    return {column: [row[column] for row in rows] for column in rows[0]}


def _write_at(file: int, values: bytes, offset: int) -> None:
    remaining = memoryview(values)
    while remaining:
        written = os.pwrite(file, remaining, offset)
        remaining, offset = remaining[written:], offset + written


def _write(path: Path, spec: CacheSpec, rows: dict[str, list[Any]], pixels: pa.Buffer) -> None:
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


def _read(path: Path, spec: CacheSpec) -> CachedImages | None:
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
    except (OSError, pa.ArrowException):
        return None
    if batch.num_rows != spec.num_images or facts.get(b"small_columns") != _digest(batch).encode():
        return None
    images = _tensor(batch.column("pixels"), (-1, 3, spec.side, spec.side))
    checksums = batch.column("checksum").to_pylist()
    for row in np.linspace(0, spec.num_images - 1, _ROWS_CHECKED, dtype=np.int64).tolist():
        if checksums[row] and zlib.crc32(images[row].numpy().tobytes()) != checksums[row]:
            return None
    return CachedImages(
        images=images,
        masks=_tensor(batch.column("mask"), (-1, spec.side, spec.side)) if spec.has_masks else None,
        heights=torch.tensor(batch.column("height").to_pylist()),
        widths=torch.tensor(batch.column("width").to_pylist()),
        boxes=torch.tensor(batch.column("box").to_pylist()),
        names=tuple(batch.column("name").to_pylist()),
        contents=tuple(batch.column("content").to_pylist()),
        unreadable=tuple(batch.column("unreadable").to_pylist()),
        box_unreadable=tuple(batch.column("box_unreadable").to_pylist()),
    )


def _tensor(column: pa.FixedSizeBinaryArray, shape: tuple[int, ...]) -> Tensor:
    """The column's bytes where they lie. By DLPack, because `torch.frombuffer` warns of read-only memory."""
    data = column.buffers()[1]
    return from_dlpack(pa.Array.from_buffers(pa.uint8(), data.size, [None, data])).view(shape)
