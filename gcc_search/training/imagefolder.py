"""Anybody's photographs: one folder per class.

ROOT/<class>/*.jpg                                   split here, by class
ROOT/train/<class>/*.jpg and ROOT/test or ROOT/val   the split that the folders say; with all three, val validates
"""

from __future__ import annotations

from pathlib import Path

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.listings import (
    Listing,
    Source,
    Unreadable,
    files_in,
    folders_in,
    kept_classes,
    missing_folder,
    overlooked_in,
)
from gcc_search.training.splits import Split

# What people call the parts of a split.
_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def list_imagefolder(root: Path, settings: DataSettings) -> Listing:
    parts = _official_parts(root)
    known = folders_in(root / "train" if parts else root)
    if not known:
        raise missing_folder(root, "<class>/*.jpg", "pass the folder that holds one folder per class as --data-root")
    _check_same_classes(root, parts, known)
    if not parts and {name.lower() for name in known} <= _SPLITS and any(folders_in(root / name) for name in known):
        rule = "folders of a split must be train and val or test, or all three"
        raise DataError(f"{root}: {rule}, got {', '.join(known)}; rename them, or add what is missing")
    classes = kept_classes(known, settings)
    sources: list[Source] = []
    unreadable: list[Unreadable] = []
    for part, split in parts.items() or [("", None)]:
        for label, name in enumerate(classes):
            place = f"{part}/{name}" if part else name
            files, failed = files_in(root, place)
            unreadable += failed + overlooked_in(root, place)
            sources += [Source(file=file, label=label, official=split) for file in files]
    return Listing(folder=root, classes=classes, sources=tuple(sources), unreadable=tuple(unreadable))


def _official_parts(root: Path) -> dict[str, Split]:
    """Sub-folder -> split; empty where ROOT itself holds the classes, even ones that are named `train` and `test`."""
    found = [part for part in ("train", "val", "test") if folders_in(root / part)]
    match found:
        case ["train", "val", "test"]:
            return {"train": "train", "val": "validation", "test": "test"}
        case ["train", "val" | "test" as held_out]:
            return {"train": "train", held_out: "test"}
    return {}


def _check_same_classes(root: Path, parts: dict[str, Split], known: list[str]) -> None:
    for part in parts:
        for name in sorted(set(folders_in(root / part)) ^ set(known)):
            raise DataError(
                f"{root}: class {name!r} must have a folder in each of {', '.join(parts)}, "
                f"got none in {part if name in known else 'train'}; add it, or remove the other"
            )
