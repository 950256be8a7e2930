"""Anybody's image files as a set that evaluation can show, decoded as those of a data set are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from gcc_search.errors import DataError
from gcc_search.training.decoding import decode
from gcc_search.training.image_set import ImageSet
from gcc_search.training.listings import Source, Stamp


def read_image_files(files: Sequence[Path], *, side: int) -> ImageSet:
    """The files in their order, squashed to side x side; every label is 0 and no object is known.

    Raises:
        DataError: a file that is missing, may not be read, or is no whole image.
    """
    pictures = []
    for path in files:
        stamp = Stamp(name=path.name, path=path, size_bytes=0, modified_ns=0)
        picture = decode(Source(file=stamp, label=0), side)
        if picture.pixels is None:
            raise DataError(f"{path}: must be an image that can be decoded, got: {picture.unreadable}; leave it out")
        pictures.append(picture)
    return ImageSet(
        images=torch.stack([torch.from_numpy(picture.pixels) for picture in pictures]),
        rows=torch.arange(len(files)),
        labels=torch.zeros(len(files), dtype=torch.int64),
        heights=torch.tensor([picture.height for picture in pictures]),
        widths=torch.tensor([picture.width for picture in pictures]),
        names=tuple(picture.name for picture in pictures),
        boxes=torch.full((len(files), 4), torch.nan),
    )
