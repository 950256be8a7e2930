"""How alike two heatmaps are: structural similarity, as the paper uses it, and correlation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gcc_search.saliency.shapes import Heatmaps, PerImage

# Wang et al., 2004, for a data range of 1.
WINDOW_SIZE = 11
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def structural_similarity(a: Heatmaps, b: Heatmaps) -> PerImage:
    """Mean SSIM of heatmaps in [0, 1], in [-1, 1]; 1 means equal.

    Gaussian 11 x 11 window, sigma 1.5, K1 0.01, K2 0.03, data range 1, population covariance, mean over the places
    where the window lies wholly inside. scikit-image pads its border and `kornia.losses.ssim_loss` is (1 - SSIM) / 2.

    Raises:
        ValueError: a heatmap is smaller than the window; a raw 7 x 7 map is.
    """
    if min(a.shape[1:]) < WINDOW_SIZE:
        raise ValueError(
            f"structural_similarity: heatmaps must be at least {WINDOW_SIZE} pixels on each side, "
            f"got {a.shape[1]} x {a.shape[2]}; upsample them first"
        )
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    moments = filter_separably(torch.stack([a, b, a * a, b * b, a * b], 1), gaussian_window(WINDOW_SIZE, _SIGMA))
    mean_a, mean_b, square_a, square_b, product = moments.unbind(1)
    covariance = product - mean_a * mean_b
    variances = square_a - mean_a * mean_a + square_b - mean_b * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a * mean_a + mean_b * mean_b + _C1)
    return (luminance * (2 * covariance + _C2) / (variances + _C2)).mean((1, 2))


def pearson_correlation(a: Heatmaps, b: Heatmaps) -> PerImage:
    """Pearson's correlation over the pixels, in [-1, 1]; 0, without gradient, where either heatmap is constant."""
    return (_zero_mean_unit_norm(a) * _zero_mean_unit_norm(b)).sum((1, 2))


def gaussian_window(size: int, sigma: float) -> list[float]:
    """Samples of a Gaussian around the middle of `size` taps; they sum to 1."""
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return [float(weight) for weight in weights / weights.sum()]


def filter_separably(images: Tensor, window: Sequence[float]) -> Tensor:
    """`window` slid over the last two dimensions, without padding: each shrinks by len(window) - 1.

    A sum of shifted copies, not a convolution: cuDNN computes float32 convolutions in TF32 by default and autocast in
    half precision, and a variance is a small difference of large numbers. On a CPU it is also faster.
    """
    for dim in (-2, -1):
        length = images.shape[dim] - len(window) + 1
        filtered = window[0] * images.narrow(dim, 0, length)
        for start, weight in enumerate(window[1:], 1):
            filtered = torch.add(filtered, images.narrow(dim, start, length), alpha=weight)
        images = filtered
    return images


def _zero_mean_unit_norm(maps: Heatmaps) -> Heatmaps:
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    centred = maps - maps.mean((1, 2), keepdim=True)
    square = centred.square().sum((1, 2), keepdim=True)
    # Below this a map differs from a constant by rounding only.
    constant = square <= (16 * torch.finfo(maps.dtype).eps) ** 2 * maps.square().sum((1, 2), keepdim=True)
    return torch.where(constant, 0, centred) / torch.where(constant, 1, square).sqrt()
