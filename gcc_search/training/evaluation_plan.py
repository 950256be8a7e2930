"""How images are shown to be scored: in which frame, under which transforms, how many at a time."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.geometry import Transforms, apply_transforms, draw_transforms, move_heatmaps
from gcc_search.saliency.shapes import Images
from gcc_search.seeding import derive_seed
from gcc_search.training.image_set import ImageSet
from gcc_search.training.showing import prepare

# The paper's t, whatever the network was trained with: scale 0.08 to 1.
EVALUATION_SCALE = (0.08, 1.0)

# Of forward passes. What maps are scored by takes half a megabyte of each image, at 7 x 7 cells.
_BATCHES_TOGETHER = 4


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How images are shown and scored. `crop` is the share of the short side that the centre crop keeps."""

    image_size: int
    crop: float
    seed: int
    batch_size: int
    device: torch.device
    insertion_images: int = 0

    def show(self, images: ImageSet, batch: Tensor) -> Images:
        """The centre crop of each image, as the network sees it."""
        pixels = images.pixels(batch, pinned=self.device.type == "cuda")
        return apply_transforms(self._view(images, batch), prepare(pixels, self.device), self.image_size)

    def regions(self, images: ImageSet, batch: Tensor) -> Tensor:
        """Box or mask of each image in the frame of `show`, (B, size, size) in [0, 1]."""
        whole = images.regions(batch, self.image_size, self.device)
        return move_heatmaps(self._view(images, batch), whole, self.image_size)

    @property
    def num_maps_together(self) -> int:
        """Of how many images the maps are scored at a time.

        On a GPU some 250 small operations take as long for a few as for many, and longer than a batch's forward pass.
        """
        return self.batch_size * (_BATCHES_TOGETHER if self.device.type == "cuda" else 1)

    @property
    def num_states_together(self) -> int:
        """How many states of insertion and deletion go through the network at a time.

        On a GPU as many as both views of a batch: of 64 at a time it waits for the host's launches.
        """
        return self.batch_size * (2 if self.device.type == "cuda" else 1)

    @property
    def num_inserted_together(self) -> int:
        """Of how many images the insertion and deletion curves are made at a time.

        The last batch of their states is not full: on a GPU one in 15 of 32 images', on a CPU one in 8.
        """
        return max(1, self.batch_size // (2 if self.device.type == "cuda" else 8))

    def transforms(self, count: int) -> Transforms:
        """t for images 0 to count - 1; image i's depends on (seed, i) alone."""
        return _draw_evaluation_transforms(self.seed, count, self.image_size).to(self.device)

    def cycle(self, count: int) -> Tensor:
        """A random order of all images, fixed by the seed: for chance, each is compared with one before it."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "evaluation partner"))
        return torch.randperm(count, generator=generator)

    def _view(self, images: ImageSet, batch: Tensor) -> Transforms:
        view = Transforms.center_crop(images.heights[batch], images.widths[batch], fraction=self.crop)
        return view.to(self.device)


# Every epoch asks for the same ones, and so does every trial after it.
@functools.lru_cache(maxsize=8)
def _draw_evaluation_transforms(seed: int, count: int, size: int) -> Transforms:
    seeds = (derive_seed(seed, i, "evaluation transform") for i in range(count))
    generators = [torch.Generator().manual_seed(own) for own in seeds]
    frame = torch.full((count,), size)
    return draw_transforms(frame, frame, scale=EVALUATION_SCALE, generator=generators)
