"""Caltech101 (Li, Andreeto, Ranzato, Perona; 2022): 101 classes, 31 to 800 images each, boxes for some.

ROOT/caltech101/101_ObjectCategories/<class>/image_0001.jpg
ROOT/caltech101/Annotations/<class>/annotation_0001.mat
"""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.image_cache import exclusive
from gcc_search.training.listings import (
    Listing,
    Source,
    Stamp,
    Unreadable,
    files_in,
    folders_in,
    kept_classes,
    missing_folder,
)

TWINS = ("Faces", "Faces_easy")
"""The same 435 photographs: image_0001 of the second is what lies around the face in image_0001 of the first."""
NOT_A_CLASS = "BACKGROUND_Google"
"""Clutter, in a folder beside the classes."""

# The official Annotations archive names four folders unlike the images' (torchvision/datasets/caltech.py); copies of
# it that were tidied do not.
OFFICIAL_ANNOTATIONS = {
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
    "airplanes": "Airplanes_Side_2",
}


def list_caltech101(root: Path, settings: DataSettings) -> Listing:
    folder = root / "caltech101" / "101_ObjectCategories"
    if not folder.is_dir() and settings.download:
        _download(root)
    known = [name for name in folders_in(folder) if name != NOT_A_CLASS]
    if not known:
        advice = "pass the folder that holds caltech101 as --data-root, or add --download to fetch it"
        raise missing_folder(folder, "<class>/image_0001.jpg", advice)
    classes = kept_classes(known, settings)
    sources: list[Source] = []
    unreadable: list[Unreadable] = []
    for label, name in enumerate(classes):
        annotations = _annotations(folder.parent / "Annotations", name)
        files, failed = files_in(folder, name)
        unreadable += failed
        for file in files:
            number = file.path.stem.removeprefix("image_")
            sources.append(Source(file=file, label=label, annotation=annotations.get(number)))
    return Listing(
        folder=folder,
        classes=classes,
        sources=tuple(sources),
        unreadable=tuple(unreadable),
        twins=_twins(source.file for source in sources),
    )


def _twins(files: Iterable[Stamp]) -> dict[str, str]:
    """Name of an image of the one class -> that of its twin in the other; empty unless both classes are kept."""
    first, second = (dict[str, str](), dict[str, str]())
    for file in files:
        class_name = file.name.partition("/")[0]
        if class_name in TWINS:
            (first, second)[TWINS.index(class_name)][file.path.stem] = file.name
    return {name: first[number] for number, name in second.items() if number in first}


def _annotations(folder: Path, class_name: str) -> dict[str, Stamp]:
    """Number of the image, as its file name spells it -> annotation; empty where the class has none."""
    for name in (class_name, OFFICIAL_ANNOTATIONS.get(class_name, class_name)):
        if (folder / name).is_dir():
            files, _ = files_in(folder, name, suffixes=frozenset({".mat"}))
            return {file.path.stem.removeprefix("annotation_"): file for file in files}
    return {}


def _download(root: Path) -> None:
    """Fetches and verifies the images by torchvision, which leaves the boxes out.

    Unpacked beside its final place and renamed, so that half a download is never taken for a whole one.
    """
    root.mkdir(parents=True, exist_ok=True)
    target = root / "caltech101" / "101_ObjectCategories"
    with exclusive(root / ".caltech101.lock"):
        if target.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=root, prefix=".caltech101-") as scratch:
            try:
                import torchvision

                with _unpacked_here_alone():
                    torchvision.datasets.Caltech101(scratch, download=True)
            except (OSError, RuntimeError, ImportError, tarfile.TarError) as error:
                raise DataError(
                    f"{root}: caltech101 must be downloadable with --download, got: {' '.join(str(error).split())}; "
                    "or unpack it there by hand as caltech101/101_ObjectCategories"
                ) from error
            target.parent.mkdir(exist_ok=True)
            Path(scratch, "caltech101", "101_ObjectCategories").replace(target)


@contextlib.contextmanager
def _unpacked_here_alone() -> Iterator[None]:
    """Within, archives write nothing outside of their folder, which torchvision leaves to Python's default: not so
    before 3.14, and from 3.12 on with a warning."""
    before = tarfile.TarFile.__dict__.get("extraction_filter")
    # Python 3.11 has it from 3.11.4 on.
    if hasattr(tarfile, "data_filter"):
        tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before
