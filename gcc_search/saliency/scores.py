"""What a map is worth, one value per image, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.geometry import Transforms, crop_regions
from gcc_search.saliency.losses import sparsity_loss, upsample
from gcc_search.saliency.shapes import (
    Classes,
    Curves,
    Heatmaps,
    Images,
    Logits,
    Orders,
    PerImage,
    RawMaps,
    Regions,
    States,
)
from gcc_search.saliency.ssim import filter_separably, gaussian_window

NUM_STEPS = 28
"""Steps of insertion and of deletion: 1,792 pixels each at 224 x 224."""
# States 0 to 28 insert; 28, the whole image, is shared; 28 to 56 delete.
_NUM_STATES = 2 * NUM_STEPS + 1
_BLUR_SIZE = 11
_BLUR_SIGMA = 5.0
_BLUR_REACH = 20
"""Taps on each side after which scipy cuts a Gaussian of sigma 5 off: 4 sigma."""


@torch.no_grad()
def gini_index(raw_maps: RawMaps) -> PerImage:
    """Gini index of ReLU(map), in [0, 1): 0 for a uniform or an empty map, 1 - 1/cells for a single cell."""
    cells = raw_maps.relu().flatten(1).sort(1).values
    count = cells.shape[1]
    ranks = torch.arange(1, count + 1, device=cells.device)
    total = cells.sum(1)
    gini = (cells * (2 * ranks - count - 1)).sum(1) / (count * total)
    return torch.where(total > 0, gini.clamp(min=0), 0)


@torch.no_grad()
def mass_half(heatmaps: Heatmaps) -> PerImage:
    """Share of the pixels of a normalised heatmap that are above 0.5, in [0, 1]; lower is sparser."""
    return (heatmaps > 0.5).to(heatmaps.dtype).mean((1, 2))


@torch.no_grad()
def heatmap_norm(heatmaps: Heatmaps, p: int | float) -> PerImage:
    """The paper's p-norm of a heatmap as one vector; for p = 0 the number of pixels that are not 0."""
    return sparsity_loss(heatmaps, p=float(p), form="paper")


def corrected_consistency(mean_consistency: float, mean_chance: float) -> float:
    """C* = (consistency - chance) / (1 - chance), at most 1; 0 for a map that ignores the image.

    Args:
        mean_consistency: mean SSIM of M(t(x_i)) and t(M(x_i)).
        mean_chance: mean SSIM of M(t(x_i)) and t(M(x_j)), j another image; above 1 - 1e-6 there is nothing to correct.
    """
    if mean_chance > 1 - 1e-6:
        return 0.0
    return (mean_consistency - mean_chance) / (1 - mean_chance)


@torch.no_grad()
def region_mass(raw_maps: RawMaps, regions: Regions) -> PerImage:
    """Share of the mass of ReLU(upsampled map) inside the region, in [0, 1]; NaN where either is empty.

    Args:
        regions: square, at the resolution of the heatmap.
    """
    mass = upsample(raw_maps, regions.shape[-1]).relu()
    # An empty map is 0 / 0.
    share = (mass * regions).sum((1, 2)) / mass.sum((1, 2))
    return torch.where(regions.sum((1, 2)) > 0, share, torch.nan)


@torch.no_grad()
def pointing(heatmaps_signed: Heatmaps, regions: Regions) -> PerImage:
    """1 where the highest pixel lies at least partly in the region, else 0; NaN for an empty region."""
    highest = heatmaps_signed.flatten(1).argmax(1, keepdim=True)
    inside = (regions.flatten(1).gather(1, highest)[:, 0] > 0).to(heatmaps_signed.dtype)
    return torch.where(regions.sum((1, 2)) > 0, inside, torch.nan)


@torch.no_grad()
def crop_mass(raw_maps: RawMaps, transforms: Transforms, size: int) -> PerImage:
    """Share of the mass of ReLU(upsampled M(x)) that t's crop keeps, in [0, 1]; NaN for an empty map."""
    return region_mass(raw_maps, crop_regions(transforms.to(raw_maps.device), size))


@dataclass(frozen=True, kw_only=True, eq=False)
class InsertionScores:
    """Areas under both curves, the insertion curve's ends, and the curves: probabilities of the class, in [0, 1]."""

    iauc: PerImage
    dauc: PerImage
    iauc_start: PerImage
    iauc_end: PerImage
    insertion_curves: Curves
    deletion_curves: Curves


@torch.no_grad()
def insertion_deletion(
    classify: Callable[[Images], Logits],
    images: Images,
    heatmaps: Heatmaps,
    *,
    classes: Classes,
    tie_orders: Orders,
    batch_size: int,
) -> InsertionScores:
    """Insertion (higher is better) and deletion (lower is better) of RISE (Petsiuk et al., 2018), 29 scores each.

    Pixels enter the blurred image, or leave the image for 0, in descending order of the heatmap; after step k,
    round(k pixels / 28) have. The area is the trapezoid rule over the steps, divided by 28.

    Args:
        classify: normalised images to logits, in eval mode; called with at most `batch_size` images at a time.
        heatmaps: upsampled and signed; their descending order is that of ReLU(map) with ties broken by the signed map.
        classes: whose softmax probability is the score: those predicted on the whole images.
        tie_orders: in which pixels move that are still tied (`draw_tie_orders`); may be on the CPU.
    """
    ranks, blurred = _ranks(heatmaps, tie_orders.to(heatmaps.device, non_blocking=True)), blur(images)
    num_states = len(images) * _NUM_STATES
    probabilities = []
    for start in range(0, num_states, batch_size):
        shown = _states(images, blurred, ranks, range(start, min(start + batch_size, num_states)))
        probabilities.append(classify(shown).float().softmax(1))
    of_classes = torch.cat(probabilities).gather(1, classes.repeat_interleave(_NUM_STATES)[:, None])
    curves = of_classes.view(len(images), _NUM_STATES)
    insertion, deletion = curves[:, : NUM_STEPS + 1], curves[:, NUM_STEPS:]
    return InsertionScores(
        iauc=torch.trapezoid(insertion, dim=1) / NUM_STEPS,
        dauc=torch.trapezoid(deletion, dim=1) / NUM_STEPS,
        iauc_start=insertion[:, 0],
        iauc_end=insertion[:, -1],
        insertion_curves=insertion,
        deletion_curves=deletion,
    )


def draw_tie_orders(seeds: Tensor | list[int], num_pixels: int) -> Orders:
    """A random order of the pixels for each seed, int64, on the CPU."""
    generators = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
    return torch.stack([torch.randperm(num_pixels, generator=generator) for generator in generators])


def blur(images: Images) -> Images:
    """RISE's blur, where insertion starts: 11 x 11, sigma 5, zeros beyond the border as in RISE's convolution.

    RISE makes its kernel by filtering a single lit pixel of an 11 x 11 array with scipy's `gaussian_filter`, which
    folds the tails back in at the array's borders: it is flatter than a Gaussian cut off at 11 taps, and sums to 1.
    """
    taps = (torch.arange(-_BLUR_REACH, _BLUR_REACH + 1) + _BLUR_SIZE // 2) % (2 * _BLUR_SIZE)
    folded = torch.minimum(taps, 2 * _BLUR_SIZE - 1 - taps)
    weights = torch.tensor(gaussian_window(2 * _BLUR_REACH + 1, _BLUR_SIGMA), dtype=torch.float64)
    window = torch.zeros(_BLUR_SIZE, dtype=torch.float64).index_add(0, folded, weights)
    return filter_separably(functional.pad(images, [_BLUR_SIZE // 2] * 4), window.tolist())


def _states(images: Images, blurred: Images, ranks: Tensor, places: range) -> States:
    """The images at these places in the row of every image's states, one image's after another's."""
    states = torch.arange(_NUM_STATES, device=images.device)
    steps = torch.where(states <= NUM_STEPS, states, states - NUM_STEPS)
    num_moved = (steps.double() * images.shape[2:].numel() / NUM_STEPS).round()[:, None, None]
    shown, empty = images.new_empty(len(places), *images.shape[1:]), images.new_zeros(())
    place = places.start
    while place < places.stop:
        image, state = divmod(place, _NUM_STATES)
        # Up to where one image's insertion ends, or its deletion, they are made at once.
        is_inserting = state <= NUM_STEPS
        count = min((NUM_STEPS + 1 if is_inserting else _NUM_STATES) - state, places.stop - place)
        is_moved = (ranks[image] < num_moved[state : state + count])[:, None]
        source, target = (blurred[image], images[image]) if is_inserting else (images[image], empty)
        torch.where(is_moved, target, source, out=shown[place - places.start :][:count])
        place += count
    return shown


def _ranks(heatmaps: Heatmaps, tie_orders: Orders) -> Tensor:
    """Place of each pixel in the descending order of its heatmap, from 0; `tie_orders` decide between equal ones."""
    descending = heatmaps.flatten(1).gather(1, tie_orders).argsort(dim=1, descending=True, stable=True)
    order = tie_orders.gather(1, descending)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(heatmaps)
