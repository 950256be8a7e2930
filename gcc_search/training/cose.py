"""COSE: whether maps stay as they are while the prediction does, and change when it does.

R. Daroya, A. Sun, S. Maji, "COSE: A Consistency-Sensitivity Metric for Saliency on Image Classification", ICCV 2023
workshops, arXiv 2309.10989. Heatmaps are those of Grad-CAM with its ReLU, brought to the image's size and to [0, 1],
each for the class that is predicted on what was shown. Settled here:

- An image is the centre crop that the network sees, rounded to 8 bits: the transforms are those of 8-bit images. What
  comes in from beyond the frame is black.
- Each transform is drawn once for an image, its amount fixed by (evaluation seed, image); `weight_of` says what it
  counts for.
- Sensitivity is over pairs whose prediction was right and is another one now: under a transform, or under random
  weights. States from the middle of training, which the paper takes as well, are not kept by a trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gcc_search.saliency.cose import similarity_inside
from gcc_search.saliency.losses import normalise, upsample
from gcc_search.saliency.shapes import Classes, Frames, SquareMaps
from gcc_search.seeding import derive_seed
from gcc_search.training.cose_transforms import TRANSFORMS, draw_amounts
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.examples import to_pixels
from gcc_search.training.image_set import ImageSet
from gcc_search.training.network import Network, full_precision
from gcc_search.training.networks import build_network
from gcc_search.training.prefetch import prepared
from gcc_search.training.showing import prepare
from gcc_search.training.terms import casts_kept, precision

PASSES = len(TRANSFORMS) + 2
"""For an image: as it is, under each transform, and by random weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CosePairs:
    """Each image with its transformed copies, in the order of `TRANSFORMS`, then with itself under random weights.

    Args:
        chosen: the images' positions in their split, (n,).
        labels, predicted: of each image as it is, (n,).
        amounts: of its transforms, (n, 13).
        predicted_then: of each pair's other side, (n, 14).
        similarity: of its two heatmaps, -1 to 1, (n, 14), float64.
        is_empty: whether the heatmap of an image as it is is 0 everywhere, (n,).
    """

    chosen: Tensor
    labels: Tensor
    predicted: Tensor
    amounts: Tensor
    predicted_then: Tensor
    similarity: Tensor
    is_empty: Tensor


def choose_images(count: int, evaluation: Evaluation, *, most: int) -> Tensor:
    """Positions of at most `most` of `count` images, ascending; fixed by the evaluation's seed."""
    generator = torch.Generator().manual_seed(derive_seed(evaluation.seed, "cose images"))
    return torch.randperm(count, generator=generator)[:most].sort().values


def untrained_network(name: str, *, num_classes: int, evaluation: Evaluation) -> Network:
    """Of random weights, the same for every network of this name and size that is measured with this seed."""
    seed = derive_seed(evaluation.seed, "cose random weights")
    return build_network(name, num_classes=num_classes, weights="none", seed=seed).to(evaluation.device)


@torch.no_grad()
def measure_cose(
    networks: tuple[Network, Network],
    images: ImageSet,
    evaluation: Evaluation,
    *,
    chosen: Tensor,
    on_step: Callable[[int, int], None] | None = None,
) -> CosePairs:
    """Every pair of the chosen images, on the CPU. What an image gets depends neither on the others nor on how many.

    Args:
        networks: the one that is measured, and one of random weights.
        on_step: called with (forward passes done, in all), in images.
    """
    amounts = draw_amounts([derive_seed(evaluation.seed, index, "cose amounts") for index in chosen.tolist()])
    batches = [slice(start, start + evaluation.batch_size) for start in range(0, len(chosen), evaluation.batch_size)]

    def show(rows: slice) -> tuple[Tensor, list[Frames]]:
        frames = to_pixels(evaluation.show(images, chosen[rows])).permute(0, 3, 1, 2).cpu()
        moved = [transform.apply(frames, amounts[rows, place]) for place, transform in enumerate(TRANSFORMS)]
        return amounts[rows].to(evaluation.device), [frames, *moved]

    parts, done = list[tuple[Tensor, ...]](), 0
    with prepared(show, batches, evaluation.device) as made, casts_kept(evaluation.device):
        for amounts_here, views in made:
            parts.append(_compare(networks, views, amounts_here, evaluation.device))
            done += PASSES * len(amounts_here)
            if on_step:
                on_step(done, PASSES * len(chosen))
    predicted, predicted_then, similarity, is_empty = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return CosePairs(
        chosen=chosen,
        labels=images.labels[chosen],
        predicted=predicted,
        amounts=amounts,
        predicted_then=predicted_then,
        similarity=similarity.double(),
        is_empty=is_empty,
    )


def _compare(
    networks: tuple[Network, Network], views: list[Frames], amounts: Tensor, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predictions on the images; of each pair that on its other side, and the similarity; which heatmaps are empty."""
    trained, untrained = networks
    frames, *moved = views
    predicted, heatmaps = _explain(trained, frames, device)
    whole = torch.ones_like(heatmaps, dtype=torch.bool)
    predicted_then, similarity = list[Classes](), list[Tensor]()
    for transform, view, drawn in zip(TRANSFORMS, moved, amounts.unbind(1), strict=True):
        predicted_here, moved_heatmaps = _explain(trained, view, device)
        predicted_then.append(predicted_here)
        similarity.append(similarity_inside(heatmaps, *transform.undo(moved_heatmaps, drawn)))
    predicted_here, random_heatmaps = _explain(untrained, frames, device)
    predicted_then.append(predicted_here)
    similarity.append(similarity_inside(heatmaps, random_heatmaps, whole))
    is_empty = heatmaps.amax((1, 2)) == 0
    return predicted, torch.stack(predicted_then, 1), torch.stack(similarity, 1), is_empty


def _explain(network: Network, frames: Frames, device: torch.device) -> tuple[Classes, SquareMaps]:
    """What a network in eval mode predicts, and its heatmaps for that."""
    network.eval()
    with precision(device):
        features = network.features(prepare(frames, device))
    features = full_precision(features)
    predicted = network.logits(features).argmax(1)
    maps = network.maps(features, predicted)
    return predicted, normalise(upsample(maps.relu(), frames.shape[-1]))
