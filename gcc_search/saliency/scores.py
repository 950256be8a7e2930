"""What a map is worth, one value per image, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.geometry import Transforms, crop_shares
from gcc_search.saliency.losses import sparsity_loss
from gcc_search.saliency.products import between
from gcc_search.saliency.shapes import (
    Claims,
    Classes,
    Curves,
    Heatmaps,
    Images,
    Logits,
    Order,
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
    return (heatmaps > 0.5).sum((1, 2)).to(heatmaps.dtype) / heatmaps[0].numel()


@torch.no_grad()
def heatmap_norm(heatmaps: Heatmaps, p: int | float) -> PerImage:
    """The paper's p-norm of a heatmap as one vector; for p = 0 the number of pixels that are not 0."""
    return sparsity_loss(heatmaps, p=float(p), form="paper")


def corrected_consistency(mean_consistency: float, mean_chance: float) -> float:
    """C* = (consistency - chance) / (1 - chance), at most 1; 0 for a map that ignores the image.

    Args:
        mean_consistency: mean SSIM of M(t(x_i)) and t(M(x_i)); of an image whose map is constant, its chance instead.
        mean_chance: mean SSIM of M(t(x_i)) and t(M(x_j)), j another image; above 1 - 1e-6 there is nothing to correct.
    """
    if mean_chance > 1 - 1e-6:
        return 0.0
    return (mean_consistency - mean_chance) / (1 - mean_chance)


@torch.no_grad()
def choose_partners(cycle: Order, is_constant: Claims) -> Order:
    """For each image another one, whose map its own is compared with for chance; nothing is fetched from the device.

    The one before it in the cycle, or, where the map of that is constant, the next one before that whose map is not: a
    constant map is like no other, and a chance level that is measured against it is too low. Where the maps of all
    others are constant, the one just before it.

    Args:
        cycle: every image once; the first follows the last.
        is_constant: by image, not by place in the cycle.
    """
    count = len(cycle)
    # Twice round, so that every image of the second round has all others before it.
    places = torch.arange(2 * count, device=cycle.device)
    with_a_map = torch.where(is_constant[cycle].repeat(2), -1, places)
    latest, own = with_a_map.cummax(0).values[count - 1 : -1], places[count:]
    # Itself, on the first round, or none at all.
    found = torch.where(latest > own - count, latest, own - 1)
    partners = torch.empty_like(cycle)
    partners[cycle] = cycle[found % count]
    return partners


@torch.no_grad()
def region_mass(mass: Heatmaps, regions: Regions) -> PerImage:
    """Share of a map's mass inside the region, in [0, 1]; NaN where the region is empty.

    An empty map has 0: nothing of it lies there. Else who silences a bad map would raise the mean over images.

    Args:
        mass: ReLU(upsampled map), square, like the regions.
    """
    total = mass.sum((1, 2))
    share = torch.where(total == 0, 0, (mass * regions).sum((1, 2)) / total)
    return torch.where(regions.sum((1, 2)) > 0, share, torch.nan)


@torch.no_grad()
def pointing(heatmaps_signed: Heatmaps, regions: Regions) -> PerImage:
    """1 where the highest pixel lies at least partly in the region, else 0; NaN for an empty region."""
    highest = heatmaps_signed.flatten(1).argmax(1, keepdim=True)
    inside = (regions.flatten(1).gather(1, highest)[:, 0] > 0).to(heatmaps_signed.dtype)
    return torch.where(regions.sum((1, 2)) > 0, inside, torch.nan)


@torch.no_grad()
def crop_mass(mass: Heatmaps, transforms: Transforms) -> PerImage:
    """Share of the mass, ReLU(upsampled M(x)), that t's crop keeps, in [0, 1]; NaN for an empty map."""
    # A crop is the product of its rows and its columns: no plane of it has to be there.
    rows, columns = crop_shares(transforms, mass.shape[-1]).to(mass.dtype).unbind()
    return between(rows[:, None], mass, columns[:, None])[:, 0, 0] / mass.sum((1, 2))


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
    dtype: torch.dtype | None = None,
) -> InsertionScores:
    """Insertion (higher is better) and deletion (lower is better) of RISE (Petsiuk et al., 2018), 29 scores each.

    Pixels enter the blurred image, or leave the image for 0, in descending order of the heatmap; after step k,
    round(k pixels / 28) have. The area is the trapezoid rule over the steps, divided by 28.

    Args:
        classify: normalised images to logits, in eval mode; called with at most `batch_size` images at a time.
        heatmaps: upsampled and signed; their descending order is that of ReLU(map) with ties broken by the signed map.
        classes: whose softmax probability is the score: those predicted on the whole images.
        tie_orders: in which pixels move that are still tied (`draw_tie_orders`); may be on the CPU.
        dtype: of what `classify` is called with, the images' own by default.
    """
    states = _States.of(images, dtype or images.dtype, _ranks(heatmaps, tie_orders))
    num_states = len(images) * _NUM_STATES
    probabilities = []
    for start in range(0, num_states, batch_size):
        shown = states.show(range(start, min(start + batch_size, num_states)))
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


def _blur_window() -> list[float]:
    taps = (torch.arange(-_BLUR_REACH, _BLUR_REACH + 1) + _BLUR_SIZE // 2) % (2 * _BLUR_SIZE)
    folded = torch.minimum(taps, 2 * _BLUR_SIZE - 1 - taps)
    weights = torch.tensor(gaussian_window(2 * _BLUR_REACH + 1, _BLUR_SIGMA), dtype=torch.float64)
    window: list[float] = torch.zeros(_BLUR_SIZE, dtype=torch.float64).index_add(0, folded, weights).tolist()
    return window


_BLUR_WINDOW = _blur_window()


def blur(images: Images) -> Images:
    """RISE's blur, where insertion starts: 11 x 11, sigma 5, zeros beyond the border as in RISE's convolution.

    RISE makes its kernel by filtering a single lit pixel of an 11 x 11 array with scipy's `gaussian_filter`, which
    folds the tails back in at the array's borders: it is flatter than a Gaussian cut off at 11 taps, and sums to 1.
    """
    return filter_separably(functional.pad(images, [_BLUR_SIZE // 2] * 4), _BLUR_WINDOW)


@dataclass(frozen=True, kw_only=True, eq=False)
class _States:
    """Every image's states, one image's after another's: 29 of its insertion, then 28 more of its deletion."""

    images: Images
    blurred: Images
    empty: Tensor
    ranks: Tensor
    num_moved: Tensor

    @classmethod
    def of(cls, images: Images, dtype: torch.dtype, ranks: Tensor) -> _States:
        states = torch.arange(_NUM_STATES, device=images.device)
        steps = torch.where(states <= NUM_STEPS, states, states - NUM_STEPS)
        num_moved = (steps.double() * images.shape[2:].numel() / NUM_STEPS).round().to(ranks.dtype)
        return cls(
            images=images.to(dtype, memory_format=torch.channels_last),
            blurred=blur(images).to(dtype, memory_format=torch.channels_last),
            empty=images.new_zeros((), dtype=dtype),
            ranks=ranks,
            num_moved=num_moved[:, None, None, None],
        )

    def show(self, places: range) -> States:
        """Those at these places in the row."""
        # Laid out as the networks' convolutions read them.
        shown = torch.empty(
            (len(places), *self.images.shape[1:]),
            dtype=self.images.dtype,
            device=self.images.device,
            memory_format=torch.channels_last,
        )
        place = places.start
        while place < places.stop:
            image, state = divmod(place, _NUM_STATES)
            # Up to where one image's insertion ends, or its deletion, they are made at once.
            is_inserting = state <= NUM_STEPS
            count = min((NUM_STEPS + 1 if is_inserting else _NUM_STATES) - state, places.stop - place)
            is_moved = self.ranks[image] < self.num_moved[state : state + count]
            whole = self.images[image]
            source, target = (self.blurred[image], whole) if is_inserting else (whole, self.empty)
            torch.where(is_moved, target, source, out=shown[place - places.start :][:count])
            place += count
        return shown


def _ranks(heatmaps: Heatmaps, tie_orders: Orders) -> Tensor:
    """Place of each pixel in the descending order of its heatmap, from 0; `tie_orders` decide between equal ones."""
    tie_orders = tie_orders.to(heatmaps.device, non_blocking=True)
    descending = heatmaps.flatten(1).gather(1, tie_orders).argsort(dim=1, descending=True, stable=True)
    order = tie_orders.gather(1, descending)
    # Each state reads them again: in half of the bytes.
    places = torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand_as(order)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places).view_as(heatmaps)
