"""Photographs to measure with: Caltech101 where its folder is named, else made up; pixels do not change the time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image

from gcc_search.settings import DataSettings
from gcc_search.training.datasets import eval_crop_of, load_dataset
from gcc_search.training.image_set import ImageSet

IMAGE_SIZE = 224
# Width and height of most of Caltech101's photographs.
_WIDTH, _HEIGHT = 300, 200


@contextlib.contextmanager
def photographs(num_images: int, data_root: Path | None) -> Iterator[DataSettings]:
    """Caltech101 from its usual cache, or a folder of `num_images` JPEG files and a cache, both removed in the end."""
    if data_root is not None:
        yield DataSettings(name="caltech101", root=data_root)
        return
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num_images):
            path = Path(folder) / "photographs" / f"class_{number % 2}" / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = np.random.default_rng(number).integers(0, 256, (8, 12, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((_WIDTH, _HEIGHT)).save(path)
        with mock.patch.dict("os.environ", GCC_SEARCH_CACHE=f"{folder}/cache"):
            yield DataSettings(name="imagefolder", root=Path(folder) / "photographs")


def images_to_score(num_images: int, data_root: Path | None) -> ImageSet:
    """So many test images with boxes: Caltech101's, or noise in memory."""
    if data_root is not None:
        settings = DataSettings(name="caltech101", root=data_root)
        return load_dataset(settings, image_size=IMAGE_SIZE).test.subset(torch.arange(num_images))
    generator = torch.Generator().manual_seed(0)
    side = round(IMAGE_SIZE / eval_crop_of("imagefolder"))
    return ImageSet(
        images=torch.randint(256, (num_images, 3, side, side), dtype=torch.uint8, generator=generator),
        rows=torch.arange(num_images),
        labels=torch.randint(101, (num_images,), generator=generator),
        heights=torch.full((num_images,), _HEIGHT),
        widths=torch.full((num_images,), _WIDTH),
        names=tuple(f"noise/{number:05d}" for number in range(num_images)),
        boxes=torch.tensor([[0.2, 0.3, 0.5, 0.4]]).repeat(num_images, 1),
    )
