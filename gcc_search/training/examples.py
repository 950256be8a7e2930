"""A few fixed test images with their maps, kept beside the measures so that figures need neither network nor images."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.shapes import Images
from gcc_search.seeding import derive_seed
from gcc_search.training.evaluation import Columns, explain
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.image_set import ImageSet
from gcc_search.training.normalisation import CHANNEL_MEAN, CHANNEL_STD
from gcc_search.training.passes import Passes

NUM_EXAMPLES = 8
# Pixels and JPEG quality of a kept picture: some 6 kB each.
PICTURE_SIDE, PICTURE_QUALITY = 192, 88


def example_columns(
    passes: Passes, images: ImageSet, evaluation: Evaluation, measured: Columns
) -> dict[str, list[Any]]:
    """Columns of heatmaps.parquet: the same images under the same transforms for every network of one data set.

    Args:
        measured: what `measure` says of all `images`.
    """
    chosen = example_indices(len(images), evaluation.seed)
    explained = explain(passes, images, evaluation, chosen=chosen)
    transforms = explained.transforms.to("cpu")
    return {
        "index": chosen.tolist(),
        "name": [images.names[index] for index in chosen.tolist()],
        **{name: measured[name][chosen].tolist() for name in ("label", "predicted", "confidence", "consistency")},
        "picture": [_jpeg(picture) for picture in evaluation.show(images, chosen).cpu()],
        "rows": [explained.seen.maps.shape[1]] * len(chosen),
        "map": explained.seen.maps.flatten(1).float().cpu().tolist(),
        "moved_map": explained.seen.moved_maps.flatten(1).float().cpu().tolist(),
        "crop": transforms.boxes.tolist(),
        "flipped": transforms.flips.tolist(),
    }


def example_indices(count: int, seed: int, num: int = NUM_EXAMPLES) -> Tensor:
    """Positions of `num` examples among `count` test images, ascending; fixed by the evaluation's seed."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "example images"))
    return torch.randperm(count, generator=generator)[:num].sort().values


def to_pixels(images: Images) -> Tensor:
    """uint8 (B, height, width, 3): normalised images as a screen shows them."""
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (CHANNEL_MEAN, CHANNEL_STD))
    return ((images * std + mean) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def _jpeg(picture: Tensor) -> bytes:
    side = min(PICTURE_SIDE, picture.shape[-1])
    small = functional.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)
    content = io.BytesIO()
    Image.fromarray(to_pixels(small)[0].numpy()).save(content, "JPEG", quality=PICTURE_QUALITY)
    return content.getvalue()
