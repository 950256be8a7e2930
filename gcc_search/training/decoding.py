"""One photograph and its annotation, from files to a row of the image cache."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gcc_search.errors import DataError
from gcc_search.training.image_cache import Box, Picture
from gcc_search.training.listings import Source

# Pillow warns of an image of 90 to 180 million pixels, which is decoded as any other, and refuses larger ones, which
# are told as unreadable. A filter for a moment is no way out: images are decoded by several threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

PixelBox = tuple[float, float, float, float]
"""Top, left, height, width in pixels of the original."""


def decode(source: Source, side: int) -> Picture:
    """The whole image squashed to side x side, or the reason why it cannot be.

    Raises:
        DataError: the file is there but may not be read: no property of the image, so nothing to remember in a cache.
    """
    content = _read(source.file.path)
    name, digest = source.file.name, hashlib.sha256(content).hexdigest()
    try:
        image = _upright_rgb(content)
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    except MemoryError:
        raise
    # Damaged files make Pillow raise anything from struct.error to ZeroDivisionError; none is lost, all become reasons.
    except Exception as error:
        return Picture(name=name, content=digest, unreadable=_one_line(error))
    box, box_unreadable = None, None
    try:
        box = _box(source, image.height, image.width)
    except DataError:
        raise
    # SciPy does the same on damaged annotations.
    except Exception as error:
        box_unreadable = _one_line(error)
    return Picture(
        name=name,
        content=digest,
        pixels=np.ascontiguousarray(pixels),
        height=image.height,
        width=image.width,
        box=box,
        box_unreadable=box_unreadable,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        helps = {FileNotFoundError: "look at its name", IsADirectoryError: "name the files in it"}
        way_out = helps.get(type(error), "mend its permissions, or remove it")
        raise DataError(f"{path}: file must be readable, got: {error.strerror}; {way_out}") from error


def _one_line(error: Exception) -> str:
    if not isinstance(error, UnidentifiedImageError):
        return " ".join(f"{error}".split()) or type(error).__name__
    # Pillow's own text names an object in memory.
    return "no image of a known format"


def _upright_rgb(content: bytes) -> Image.Image:
    """As a viewer shows it: turned by its EXIF orientation; alpha is dropped, as torchvision does."""
    image: Image.Image = Image.open(io.BytesIO(content))
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        # Pillow clips 16 bits at 255 where it should scale.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range")
    if "transparency" in image.info:
        # A palette converted without this step warns.
        image = image.convert("RGBA")
    return image.convert("RGB")


def _box(source: Source, height: int, width: int) -> Box | None:
    box = source.box
    if source.annotation is not None:
        box = _caltech_box(_read(source.annotation.path))
    return box and _as_fractions(box, height, width)


def _caltech_box(content: bytes) -> PixelBox:
    """From `box_coord`: first and last row, first and last column, counted from 1, stored as uint8 or uint16."""
    import scipy.io

    coordinates: NDArray[np.float64] = scipy.io.loadmat(io.BytesIO(content))["box_coord"].astype(np.float64)
    top, bottom, left, right = coordinates.ravel().tolist()
    return top - 1, left - 1, bottom - top + 1, right - left + 1


def _as_fractions(box: PixelBox, height: int, width: int) -> Box:
    """The part of the box that lies on the image.

    Raises:
        ValueError: none does.
    """
    top, left = max(0.0, box[0] / height), max(0.0, box[1] / width)
    bottom, right = min(1.0, (box[0] + box[2]) / height), min(1.0, (box[1] + box[3]) / width)
    if not all(map(math.isfinite, box)) or bottom <= top or right <= left:
        raise ValueError(
            f"box {box} (top, left, height, width) covers nothing of an image {height} high and {width} wide"
        )
    return top, left, bottom - top, right - left
