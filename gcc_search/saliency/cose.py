"""How alike two heatmaps are where both can be seen: the similarity that COSE is made of.

R. Daroya, A. Sun, S. Maji, "COSE: A Consistency-Sensitivity Metric for Saliency on Image Classification", ICCV 2023
workshops, arXiv 2309.10989.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gcc_search.saliency.shapes import Heatmaps, Masks, PerImage
from gcc_search.saliency.ssim import filter_separably

WINDOW_SIZE = 5
"""As in J. Adebayo et al., "Sanity Checks for Saliency Maps", 2018, which COSE follows."""
_K1, _K2 = 0.01, 0.03
# Of a variance over the window, from the mean of squares: the sample's, not the population's.
_SAMPLE = WINDOW_SIZE**2 / (WINDOW_SIZE**2 - 1)


@torch.no_grad()
def similarity_inside(a: Heatmaps, b: Heatmaps, valid: Masks) -> PerImage:
    """Mean SSIM, in [-1, 1], over the windows that lie wholly inside `valid` and the frame; 1 means equal.

    scikit-image's `structural_similarity` with its defaults and a window of 5: uniform weights, K1 0.01, K2 0.03,
    sample covariance. The data range of a pair is the larger of the ranges of its two maps, so that one factor for both
    changes nothing. Where all is valid, this is scikit-image's own mean; else the mean of its full map over the mask
    eroded by the window, where the border of the frame erodes as well. Unlike `ssim.structural_similarity`, whose
    window is Gaussian and 11 wide.

    Two constant maps have a similarity of 1 (scikit-image divides 0 by 0); NaN where `valid` holds no window.

    Raises:
        ValueError: a heatmap is smaller than the window.
    """
    if min(a.shape[1:]) < WINDOW_SIZE:
        raise ValueError(
            f"similarity_inside: heatmaps must be at least {WINDOW_SIZE} pixels on each side, "
            f"got {a.shape[1]} x {a.shape[2]}; upsample them first"
        )
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    data_range = torch.maximum(_spread(a), _spread(b))
    similarity = _similarity_of_windows(a, b, data_range)
    inside = _erode(valid)
    count = inside.sum((1, 2))
    mean = torch.where(data_range[:, 0, 0] > 0, torch.where(inside, similarity, 0).sum((1, 2)) / count, 1)
    return torch.where(count > 0, mean, torch.nan)


def _spread(maps: Tensor) -> Tensor:
    """(B, 1, 1)."""
    return maps.amax((1, 2), keepdim=True) - maps.amin((1, 2), keepdim=True)


def _similarity_of_windows(a: Tensor, b: Tensor, data_range: Tensor) -> Tensor:
    """Of each window inside the frame, (B, h - 4, w - 4)."""
    window = [1 / WINDOW_SIZE] * WINDOW_SIZE
    mean_a, mean_b, squares, product = filter_separably(torch.stack([a, b, a * a + b * b, a * b]), window)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    means = mean_a**2 + mean_b**2
    variances, covariance = _SAMPLE * (squares - means), _SAMPLE * (product - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (means + c1)
    similarity: Tensor = luminance * (2 * covariance + c2) / (variances + c2)
    return similarity


def _erode(valid: Masks) -> Tensor:
    """Whether each window inside the frame is wholly valid, (B, h - 4, w - 4)."""
    return functional.max_pool2d((~valid).float()[:, None], WINDOW_SIZE, stride=1)[:, 0] == 0
