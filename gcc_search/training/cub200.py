"""CUB-200-2011 (Wah et al., 2011): 200 birds, the authors' split, a box for every image.

Its lists rule; stray files in the folders do not count.

ROOT/CUB_200_2011/images.txt               <image id> <path under images/>
ROOT/CUB_200_2011/classes.txt              <class id> <class>
ROOT/CUB_200_2011/image_class_labels.txt   <image id> <class id>
ROOT/CUB_200_2011/train_test_split.txt     <image id> <1 to train, 0 to test>
ROOT/CUB_200_2011/bounding_boxes.txt       <image id> <left> <top> <width> <height>, in pixels; may be absent
"""

from __future__ import annotations

from pathlib import Path

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.listings import Listing, Source, Stamp, Unreadable, kept_classes, missing_folder, stamp_of
from gcc_search.training.splits import Split

_UNPACK = "unpack CUB_200_2011.tgz, as its authors distribute it, once more"


def list_cub200(root: Path, settings: DataSettings) -> Listing:
    folder = root / "CUB_200_2011"
    if not (folder / "images.txt").is_file():
        advice = "get CUB_200_2011.tgz from its authors and unpack it in the folder given as --data-root"
        if settings.download:
            advice = "--download cannot fetch it: " + advice
        raise missing_folder(folder, "images.txt and the lists beside it", advice)
    class_names = _read_list(folder / "classes.txt")
    class_ids = _read_list(folder / "image_class_labels.txt")
    trains = _read_list(folder / "train_test_split.txt")
    boxes = _read_list(folder / "bounding_boxes.txt") if (folder / "bounding_boxes.txt").is_file() else {}
    classes = kept_classes(list(class_names.values()), settings)
    sources: list[Source] = []
    unreadable: list[Unreadable] = []
    for image, name in _read_list(folder / "images.txt").items():
        class_name = _look_up(
            class_names, _look_up(class_ids, image, folder / "image_class_labels.txt"), folder / "classes.txt"
        )
        trains_here = _look_up(trains, image, folder / "train_test_split.txt")
        if class_name not in classes:
            continue
        file = stamp_of(name, folder / "images" / name)
        if not isinstance(file, Stamp):
            unreadable.append(file)
            continue
        box = _box(boxes[image]) if image in boxes else None
        if image in boxes and box is None:
            reason = f"annotation: bounding_boxes.txt has no box in {boxes[image]!r}; used without a box"
            unreadable.append(Unreadable(name=name, reason=reason))
        official: Split = "train" if trains_here == "1" else "test"
        sources.append(Source(file=file, label=classes.index(class_name), official=official, box=box))
    sources.sort(key=lambda source: source.file.name)
    return Listing(folder=folder, classes=classes, sources=tuple(sources), unreadable=tuple(unreadable))


def _read_list(path: Path) -> dict[str, str]:
    """Id -> the rest of its line.

    Raises:
        DataError: the list is missing, a line has nothing after its id, or two lines have one id and differ.
    """
    if not path.is_file():
        raise DataError(f"{path}: list must exist, got none; {_UNPACK}")
    values: dict[str, str] = {}
    # An editor may have put a byte-order mark in front.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        identifier, _, value = line.strip().partition(" ")
        if not value:
            raise DataError(f"{path}: line {number} must be an id and a value, got {line!r}; {_UNPACK}")
        if values.setdefault(identifier, value.strip()) != value.strip():
            raise DataError(f"{path}: line {number} must have an id of its own, got {identifier} again; {_UNPACK}")
    return values


def _look_up(values: dict[str, str], identifier: str, path: Path) -> str:
    if identifier not in values:
        raise DataError(f"{path}: list must have a line for id {identifier}, got none; {_UNPACK}")
    return values[identifier]


def _box(text: str) -> tuple[float, float, float, float] | None:
    try:
        left, top, width, height = map(float, text.split())
    except ValueError:
        return None
    return top, left, height, width
