"""What a data set's folder holds, found without opening any image: the types, and the ways of reading folders.

One module per data set (`caltech101`, `cub200`, `imagefolder`) turns the layout of its authors into a `Listing`.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.splits import Split

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
# Of images that somebody meant to be there, and that are not read.
_OTHER_IMAGES = frozenset({".heic", ".heif", ".jxl", ".jp2", ".tga", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw"})

_ANY_IMAGES = IMAGE_SUFFIXES | _OTHER_IMAGES


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A file that cannot be used, and why; an image is left out, an annotation done without."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A file as its folder knows it."""

    name: str
    """Relative to the data set's folder."""
    path: Path
    size_bytes: int
    modified_ns: int

    @property
    def identity(self) -> list[Any]:
        return [self.name, self.size_bytes, self.modified_ns]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One image to decode."""

    file: Stamp
    label: int
    official: Split | None = None
    """The authors' split, where they give one."""
    annotation: Stamp | None = None
    """A MATLAB file with the object's box."""
    box: tuple[float, float, float, float] | None = None
    """Top, left, height, width in pixels of the original, where a list gives them."""

    @property
    def identity(self) -> list[Any]:
        """All that decides the cached row, without opening a file."""
        return [self.file.identity, self.annotation and self.annotation.identity, self.box]


@dataclass(frozen=True, kw_only=True)
class Listing:
    folder: Path
    classes: tuple[str, ...]
    sources: tuple[Source, ...]
    unreadable: tuple[Unreadable, ...] = ()
    """Known to be so without opening an image: listed but missing, or named in no known encoding."""
    twins: Mapping[str, str] = field(default_factory=dict)
    """Name of an image -> name of the same photograph in a class before its own; both belong in one split."""


def spelt_alike(name: str) -> str:
    """`name` as it is compared: some systems write an accent as a letter of its own (NFD), most do not (NFC)."""
    return unicodedata.normalize("NFC", name)


def kept_classes(known: Sequence[str], settings: DataSettings) -> tuple[str, ...]:
    """The classes that `settings.classes` keeps, in the data set's own order.

    Raises:
        DataError: a name is not known, or fewer than two classes are left.
    """
    asked = known if settings.classes is None else settings.classes
    wanted, there = set(map(spelt_alike, asked)), set(map(spelt_alike, known))
    for name in sorted(name for name in asked if spelt_alike(name) not in there):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        some = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        advice = f"did you mean {near[0]!r}?" if near else f"its {len(known)} classes are {some}"
        raise DataError(f"data.classes: names must be classes of {settings.name}, got {name!r}; {advice}")
    kept = tuple(name for name in known if spelt_alike(name) in wanted)
    if len(kept) < 2:
        raise DataError(
            f"data.classes: classes of {settings.name} must be at least 2, got {len(kept)} ({', '.join(kept)}); "
            "add folders, or name more classes"
        )
    return kept


def missing_folder(folder: Path, layout: str, advice: str) -> DataError:
    """The error of a folder that is not there, or is laid out otherwise."""
    return DataError(f"{folder}: folder must hold {layout}, got none; {advice}")


def folders_in(folder: Path) -> list[str]:
    """Names of the visible folders, sorted; empty where `folder` is missing."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    return sorted(filter(_is_visible, names))


def files_in(
    folder: Path, part: str, *, suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> tuple[list[Stamp], list[Unreadable]]:
    """Visible files of folder/part with one of the suffixes, of any case, by name; and those that cannot be used."""
    files, unreadable = [], []
    with os.scandir(folder / part) as entries:
        found = sorted((entry.name, entry.path) for entry in entries if not entry.is_dir())
    for file_name, path in found:
        if file_name.startswith(".") or Path(file_name).suffix.lower() not in suffixes:
            continue
        stamp = stamp_of(f"{part}/{file_name}", Path(path))
        files.append(stamp) if isinstance(stamp, Stamp) else unreadable.append(stamp)
    return files, unreadable


def overlooked_in(folder: Path, part: str) -> list[Unreadable]:
    """What `files_in` leaves out of folder/part although its owner may count on it, a line for each kind: images of
    other types, and folders of any."""
    with os.scandir(folder / part) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries if _is_visible(entry.name))
    overlooked = []
    for name in (name for name, is_folder in found if is_folder):
        if count := _count_images(folder / part / name):
            told = f"{count} images are" if count > 1 else "image is"
            reason = f"a folder within a class, whose {told} not read; move up what belongs to the class"
            overlooked.append(Unreadable(name=_written(f"{part}/{name}"), reason=reason))
    files = [name for name, is_folder in found if not is_folder]
    for suffix, count in sorted(Counter(Path(name).suffix.lower() for name in files).items()):
        if suffix in _OTHER_IMAGES:
            told = f"{count} files are" if count > 1 else "one file is"
            overlooked.append(Unreadable(name=f"{part}/*{suffix}", reason=f"{told} not read; convert to PNG or JPEG"))
    return overlooked


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _count_images(folder: Path) -> int:
    """Of whatever type, at any depth."""
    count = 0
    for _, folders, names in os.walk(folder):
        folders[:] = filter(_is_visible, folders)
        count += sum(_is_visible(name) and Path(name).suffix.lower() in _ANY_IMAGES for name in names)
    return count


def _written(name: str) -> str:
    """`name` as it can be written: not every system's names are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return ascii(name)
    return name


def stamp_of(name: str, path: Path) -> Stamp | Unreadable:
    try:
        name.encode()
        facts = path.stat()
    except UnicodeEncodeError:
        return Unreadable(name=ascii(name), reason="the file's name is not UTF-8")
    except FileNotFoundError:
        return Unreadable(name=name, reason="missing")
    return Stamp(name=name, path=path, size_bytes=facts.st_size, modified_ns=facts.st_mtime_ns)
