"""Each data set decoded once per machine, into one memory-mapped file (`cache_file`) whose pages all trials share.

An image that cannot be decoded keeps its row and its reason, and is never tried again. The file's name ends in a key
that is computed without opening any image, so that an existing cache opens in milliseconds.

One process builds while others wait. A file that is torn, foreign or of another format is built anew, never read.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from numpy.typing import NDArray

from gcc_search.cores import usable_cores
from gcc_search.errors import DataError
from gcc_search.homes import expanded
from gcc_search.training.cache_file import CachedImages, CacheSpec, read_cache, write_cache

Progress = Callable[[int, int], None]
"""Told (images done, images in all)."""

Box = tuple[float, float, float, float]
"""Top, left, height, width, as fractions of the whole image, in [0, 1]."""


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


def cache_folder(chosen: Path | None = None) -> Path:
    """`chosen`, else $GCC_SEARCH_CACHE, else ~/.cache/gcc-search.

    Raises:
        DataError: the home of nobody.
    """
    if chosen is not None:
        return chosen
    return expanded(os.environ.get("GCC_SEARCH_CACHE") or "~/.cache/gcc-search", where="GCC_SEARCH_CACHE")


def open_cache(
    spec: CacheSpec, make: Callable[[int], Picture], *, folder: Path | None = None, progress: Progress | None = None
) -> CachedImages:
    """The images of `spec`, from its file where there is a sound one, else from `make(row)` in several threads.

    Raises:
        DataError: the folder cannot be written to, or its disk is full; whatever `make` raises passes through.
    """
    path = cache_folder(folder) / spec.file_name
    cached = read_cache(path, spec)
    if cached is not None:
        return cached
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_suffix(".lock")) as alone:
            # Another process may have built it while this one waited.
            cached = read_cache(path, spec)
            if cached is None:
                if alone:
                    _remove_leftovers(path)
                _build(path, spec, make, progress or (lambda done, total: None))
    except OSError as error:
        raise _unwritable(path.parent, error.strerror or str(error)) from error
    cached = cached or read_cache(path, spec)
    if cached is None:
        raise _unwritable(path.parent, f"another content than was just written to {path.name}")
    return cached


@contextlib.contextmanager
def exclusive(lock_file: Path) -> Iterator[bool]:
    """Waits until no other process holds `lock_file`; a killed process lets go of it.

    False where the file system cannot lock, as some network ones: then two may build, and the last rename wins.
    """
    with lock_file.open("w") as file:
        alone = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            alone = False
        yield alone


def _remove_leftovers(path: Path) -> None:
    """What a process left that was killed while it wrote this cache."""
    for partial in path.parent.glob(f"{path.stem}.*.partial"):
        partial.unlink(missing_ok=True)


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
        # Not closed by hand: after an error its buffers live on in the traceback, and closing would hide that error.
        write_cache(path, spec, rows, pa.py_buffer(mmap.mmap(scratch.fileno(), 0, access=mmap.ACCESS_READ)))


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
            mask = picture.mask.tobytes()
            _write_at(scratch, mask, spec.num_images * pixel_bytes + row * mask_bytes)
            checksum = zlib.crc32(mask, checksum)
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
    with ThreadPoolExecutor(min(16, usable_cores())) as threads:
        for row in threads.map(work, range(spec.num_images)):
            rows.append(row)
            progress(len(rows), spec.num_images)
    return {column: [row[column] for row in rows] for column in rows[0]}


def _write_at(file: int, values: bytes, offset: int) -> None:
    remaining = memoryview(values)
    while remaining:
        written = os.pwrite(file, remaining, offset)
        remaining, offset = remaining[written:], offset + written
