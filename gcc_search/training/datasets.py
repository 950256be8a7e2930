"""A data set as training and evaluation see it: three splits that share no file, opened from the image cache.

Photographs are stored whole, squashed to a square: a crop is drawn in the original's pixels and applied as fractions,
so its aspect is exact.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training import shapes
from gcc_search.training.cache_file import CachedImages, CacheSpec
from gcc_search.training.caltech101 import list_caltech101
from gcc_search.training.cub200 import list_cub200
from gcc_search.training.decoding import decode
from gcc_search.training.image_cache import Picture, Progress, open_cache
from gcc_search.training.image_set import ImageSet
from gcc_search.training.imagefolder import list_imagefolder
from gcc_search.training.listings import Listing, Unreadable, kept_classes
from gcc_search.training.splits import MIN_IMAGES_PER_CLASS, Split, split_beside

# torchvision's recipe: scale the short side to 256, cut 224 from the centre.
_STORED_PER_SEEN = 256 / 224


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """Three splits that share no file."""

    name: str
    classes: tuple[str, ...]
    """Label -> name."""
    train: ImageSet
    validation: ImageSet
    """Cut from the authors' training part: what the sampler is scored on."""
    test: ImageSet
    fingerprint: str
    """SHA-256, in hex, of every image's name, label, split and content; the same wherever the folder lies."""
    unreadable: tuple[Unreadable, ...]
    """Images left out, and annotations done without, each with its reason."""
    repeated: tuple[tuple[str, str], ...] = ()
    """Files that are scored, each with an equal one of another split: a network may know them by heart."""


def eval_crop_of(name: str) -> float:
    """Share of the short side that the evaluation's centre crop keeps, for images of this data set."""
    return 1.0 if name == "shapes" else 1 / _STORED_PER_SEEN


def load_dataset(
    settings: DataSettings, *, image_size: int, progress: Progress | None = None, cache: Path | None = None
) -> DataSet:
    """The data set, decoded once and from then on opened from its cache.

    Args:
        image_size: Side in pixels of what networks see; photographs are stored 8/7 as wide.
        progress: Told how many images are decoded of how many; never, where the cache exists already.
        cache: Folder of the cache; $GCC_SEARCH_CACHE where None, else ~/.cache/gcc-search.

    Raises:
        DataError: a folder, class, list or file breaks a rule, or the cache cannot be written.
    """
    if settings.name == "shapes":
        return _load_shapes(settings, side=image_size, progress=progress, cache=cache)
    listing = _list_images(settings)
    side = round(image_size * _STORED_PER_SEEN)
    spec = CacheSpec(
        data_set=settings.name,
        side=side,
        num_images=len(listing.sources),
        has_masks=False,
        # The folder too: unpacked archives give different images of one name equal times, and bitmaps equal sizes.
        identity=[str(listing.folder), [source.identity for source in listing.sources]],
    )
    contents = _Contents(
        where=str(listing.folder),
        classes=listing.classes,
        labels=tuple(source.label for source in listing.sources),
        official=tuple(source.official for source in listing.sources),
        unreadable=listing.unreadable,
        twins=listing.twins,
        more_images="add images, or leave it out of data.classes",
    )
    # Told before the decoding, not after.
    counts = Counter(contents.labels)
    for label in range(len(listing.classes)):
        if counts[label] < MIN_IMAGES_PER_CLASS:
            rows = [row for row, other in enumerate(contents.labels) if other == label]
            raise _too_few(settings, contents, label, rows)
    images = open_cache(spec, lambda row: decode(listing.sources[row], side), folder=cache, progress=progress)
    return _assemble(settings, contents, images)


def _list_images(settings: DataSettings) -> Listing:
    if settings.root is None:
        raise DataError(
            f"data.root: folder must be given for {settings.name}, got none; "
            "pass --data-root, or set data.root in the space file"
        )
    root = settings.root.expanduser().absolute()
    list_images = {"caltech101": list_caltech101, "cub200": list_cub200, "imagefolder": list_imagefolder}[settings.name]
    try:
        return list_images(root, settings)
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: folder must be readable, got: {error.strerror or error}; check its permissions"
        ) from error


def _load_shapes(settings: DataSettings, *, side: int, progress: Progress | None, cache: Path | None) -> DataSet:
    classes = kept_classes(shapes.CLASSES, settings)
    kept = (index for index in itertools.count() if shapes.CLASSES[shapes.class_of(index)] in classes)
    indices = list(itertools.islice(kept, settings.num_images))
    spec = CacheSpec(
        data_set="shapes",
        side=side,
        num_images=settings.num_images,
        has_masks=True,
        identity=[shapes.VERSION, settings.data_seed, list(classes)],
    )

    def draw(row: int) -> Picture:
        scene = shapes.draw_scene(settings.data_seed, indices[row], side)
        # The settings, not the pixels: sines differ in their last bit from one processor to another.
        content = hashlib.sha256(repr((shapes.VERSION, settings.data_seed, indices[row], side)).encode()).hexdigest()
        return Picture(
            name=f"shapes/{indices[row]:06d}",
            content=content,
            pixels=scene.pixels,
            mask=scene.mask,
            height=side,
            width=side,
            box=shapes.bounding_box(scene.mask),
        )

    contents = _Contents(
        where="shapes",
        classes=classes,
        labels=tuple(classes.index(shapes.CLASSES[shapes.class_of(index)]) for index in indices),
        official=(None,) * len(indices),
        unreadable=(),
        more_images="raise data.num_images",
    )
    return _assemble(settings, contents, open_cache(spec, draw, folder=cache, progress=progress))


@dataclass(frozen=True, kw_only=True)
class _Contents:
    """What is known beside the pixels; labels and official splits per row of the cache."""

    where: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    official: tuple[Split | None, ...]
    unreadable: tuple[Unreadable, ...]
    more_images: str
    """What to do where a class has too few."""
    twins: Mapping[str, str] = field(default_factory=dict)
    """As in `Listing`."""


def _assemble(settings: DataSettings, contents: _Contents, images: CachedImages) -> DataSet:
    splits = _split(settings, contents, images)
    facts = sorted((images.names[row], contents.labels[row], images.contents[row], splits[row]) for row in splits)
    fingerprint = hashlib.sha256(json.dumps([settings.name, contents.classes, facts]).encode()).hexdigest()
    found = [
        Unreadable(name=name, reason=reason)
        for name, image, box in zip(images.names, images.unreadable, images.box_unreadable, strict=True)
        if (reason := image or (box and f"annotation: {box}; used without a box"))
    ]
    by_split = {
        split: _image_set(images, contents.labels, sorted(row for row in splits if splits[row] == split))
        for split in get_args(Split)
    }
    return DataSet(
        name=settings.name,
        classes=contents.classes,
        fingerprint=fingerprint,
        unreadable=tuple(sorted((*contents.unreadable, *found), key=lambda one: one.name)),
        repeated=_repeated(images, splits),
        **by_split,
    )


def _repeated(images: CachedImages, splits: Mapping[int, Split]) -> tuple[tuple[str, str], ...]:
    """Names of equal files in two splits, the one that is scored first: once for each of these."""
    order = get_args(Split)
    first: dict[str, int] = {}
    found = []
    for row in sorted(splits, key=lambda row: (order.index(splits[row]), images.names[row])):
        other = first.setdefault(images.contents[row], row)
        if splits[other] != splits[row]:
            found.append((images.names[row], images.names[other]))
    return tuple(found)


def _split(settings: DataSettings, contents: _Contents, images: CachedImages) -> dict[int, Split]:
    """Row of the cache -> split, for the images that are readable and kept."""
    readable: dict[int, dict[str, int]] = {label: {} for label in range(len(contents.classes))}
    for row, (name, label, reason) in enumerate(zip(images.names, contents.labels, images.unreadable, strict=True)):
        if reason is None:
            readable[label][name] = row
    splits: dict[int, Split] = {}
    by_name: dict[str, Split] = {}
    for label, rows in readable.items():
        official = {name: contents.official[row] for name, row in rows.items()}
        drawn = split_beside(official, settings, twins=contents.twins, splits=by_name)
        if drawn is None:
            again = sum(name in contents.twins for name in rows)
            raise _too_few(settings, contents, label, list(rows.values()), again=again)
        by_name |= drawn
        splits.update({rows[name]: split for name, split in drawn.items()})
    return splits


def _too_few(
    settings: DataSettings, contents: _Contents, label: int, readable: Sequence[int], *, again: int = 0
) -> DataError:
    """`again`: how many of the readable ones are photographs of another class, and split as they are there."""
    least = MIN_IMAGES_PER_CLASS
    if (settings.max_images_per_class or least) < least:
        return DataError(
            f"data.max_images_per_class: must be at least {least}, got {settings.max_images_per_class}; "
            "each class needs one image to train, one to validate and one to test"
        )
    got = f"{len(readable)} of {contents.labels.count(label)} listed"
    if any(contents.official):
        tests = sum(contents.official[row] == "test" for row in readable)
        got += f" ({tests} to test, by the data set's own split)"
    if again:
        got += f" ({again} of them photographs of another class, split as there)"
    return DataError(
        f"{contents.where}: class {contents.classes[label]!r} must hold at least {least} readable images, "
        f"to train, validate and test on, got {got}; {contents.more_images}"
    )


def _image_set(images: CachedImages, labels: Sequence[int], rows: list[int]) -> ImageSet:
    where = torch.tensor(rows)
    return ImageSet(
        images=images.images,
        rows=where,
        labels=torch.tensor([labels[row] for row in rows]),
        heights=images.heights[where],
        widths=images.widths[where],
        names=tuple(images.names[row] for row in rows),
        boxes=images.boxes[where],
        masks=images.masks,
    )
