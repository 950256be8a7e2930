"""How alike two heatmaps are: structural similarity, as the paper uses it, and correlation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gcc_search.saliency.fused import fused
from gcc_search.saliency.products import between, is_exact
from gcc_search.saliency.shapes import Heatmaps, PerImage

# Wang et al., 2004, for a data range of 1.
WINDOW_SIZE = 11
_SIGMA = 1.5
_C1 = 0.01**2
_C2 = 0.03**2


def gaussian_window(size: int, sigma: float) -> list[float]:
    """Samples of a Gaussian around the middle of `size` taps; they sum to 1."""
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return [float(weight) for weight in weights / weights.sum()]


WINDOW = gaussian_window(WINDOW_SIZE, _SIGMA)


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
    similarity: PerImage = _MeanSimilarity.apply(a.to(dtype), b.to(dtype))
    return similarity


class _MeanSimilarity(torch.autograd.Function):
    """Its gradient in closed form: autograd would keep a tensor for each of two dozen operations, 5 MB an image."""

    @staticmethod
    def forward(context: Any, a: Tensor, b: Tensor) -> Tensor:
        # The means are taken again in the backward pass: a sixth of its time, against two thirds of its bytes.
        context.save_for_backward(a, b)
        return _mean_similarity(a, b)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return _mean_similarity_gradient(gradient, *context.saved_tensors)


def _mean_similarity(a: Tensor, b: Tensor) -> Tensor:
    """N1 N2 / (D1 D2), with the window's means A = w*a, B = w*b, E = w*(aa + bb)/2 and R = w*(ab).

    N1 = AB + C1/2, D1 = (A^2 + B^2)/2 + C1/2, N2 = R - AB + C2/2, D2 = E - (A^2 + B^2)/2 + C2/2: half of each of Wang's
    factors; variances enter as their sum only.
    """
    n1, d1, n2, d2 = _fractions(_moments(a, b))
    return n1.div_(d1).mul_(n2.div_(d2)).mean((1, 2))


def _mean_similarity_gradient(gradient: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    mean_a, mean_b, squares, product = _moments(a, b).unbind(1)
    variances = (squares + squares).addcmul_(mean_a, mean_a, value=-1).addcmul_(mean_b, mean_b, value=-1)
    _, *gradients = similarity_with_gradient(mean_a, mean_b, variances, product - mean_a * mean_b)
    by = torch.stack(gradients).mul_(gradient[:, None, None] / mean_a[0].numel())
    by_a, by_b, by_squares, by_product = by
    by_a.addcmul_(by_squares, mean_a, value=-1).addcmul_(by_product, mean_b, value=-1)
    by_b.addcmul_(by_squares, mean_b, value=-1).addcmul_(by_product, mean_a, value=-1)
    of_a, of_b, of_squares, of_product = _spread_separably(by)
    return of_a + a * of_squares + b * of_product, of_b + b * of_squares + a * of_product


def _moments(a: Tensor, b: Tensor) -> Tensor:
    """A, B, E and R along the second dimension."""
    return filter_separably(torch.stack([a, b, (a * a).addcmul_(b, b).mul_(0.5), a * b], 1), WINDOW)


def _fractions(moments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Numerators and denominators of luminance and of contrast-structure: N1, D1, N2, D2."""
    mean_a, mean_b, squares, product = moments.unbind(1)
    n1, d1 = _luminance(mean_a, mean_b, _C1 / 2)
    rest = (_C1 + _C2) / 2
    return n1, d1, (product - n1).add_(rest), (squares - d1).add_(rest)


def _luminance(mean_a: Tensor, mean_b: Tensor, half_c1: float) -> tuple[Tensor, Tensor]:
    """N1 and D1."""
    n1 = (mean_a * mean_b).add_(half_c1)
    apart = mean_a - mean_b
    return n1, torch.addcmul(n1, apart, apart, value=0.5)


def pearson_correlation(a: Heatmaps, b: Heatmaps) -> PerImage:
    """Pearson's correlation over the pixels, in [-1, 1]; 0, without gradient, where either heatmap is constant."""
    return (_zero_mean_unit_norm(a) * _zero_mean_unit_norm(b)).sum((1, 2))


@fused(
    """template <typename T> void similarity_with_gradient(
        T a, T b, T variances, T covariance, T half_c1, T half_c2,
        T& similarity, T& by_a, T& by_b, T& by_half_variance, T& by_covariance) {
      T n1 = a * b + half_c1, d1 = n1 + (a - b) * (a - b) / 2;
      T n2 = covariance + half_c2, d2 = variances / 2 + half_c2;
      T per_unit = 1 / (d1 * d2);
      by_covariance = per_unit * n1;
      similarity = by_covariance * n2;
      T crossed = per_unit * n2, own = similarity / d1;
      by_a = b * crossed - a * own;
      by_b = a * crossed - b * own;
      by_half_variance = -similarity / d2;
    }""",
    outputs=5,
    half_c1=_C1 / 2,
    half_c2=_C2 / 2,
)
def similarity_with_gradient(
    mean_a: Tensor, mean_b: Tensor, variances: Tensor, covariance: Tensor, *, half_c1: float, half_c2: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """SSIM of windows of two heatmaps, all tensors of one shape; and its gradient by the means, by half of the
    variances' sum, and by the covariance.

    Args:
        variances: their sum.
        half_c1, half_c2: halves of Wang's constants.
    """
    n1, d1 = _luminance(mean_a, mean_b, half_c1)
    n2, d2 = covariance + half_c2, torch.add(half_c2, variances, alpha=0.5)
    per_unit = (d1 * d2).reciprocal_()
    by_covariance = per_unit * n1
    similarity = by_covariance * n2
    crossed, own = per_unit.mul_(n2), similarity / d1
    by_a = (mean_b * crossed).addcmul_(own, mean_a, value=-1)
    by_b = crossed.mul_(mean_a).addcmul_(own, mean_b, value=-1)
    return similarity, by_a, by_b, (similarity / d2).neg_(), by_covariance


def filter_separably(images: Tensor, window: Sequence[float]) -> Tensor:
    """`window` slid over the last two dimensions, without padding: each shrinks by len(window) - 1.

    A sum of shifted copies, not a convolution: cuDNN computes float32 convolutions in TF32 by default and autocast in
    half precision, and a variance is a small difference of large numbers. On a CPU it is also faster. On a GPU two
    products with a band of weights take a third of its time.
    """
    if images.is_cuda and is_exact(images):
        rows, columns = (_band(tuple(window), images.shape[dim], images.dtype, images.device) for dim in (-2, -1))
        return between(rows, images, columns)
    for dim in (-2, -1):
        length = images.shape[dim] - len(window) + 1
        filtered = window[0] * images.narrow(dim, 0, length)
        for start, weight in enumerate(window[1:], 1):
            filtered.add_(images.narrow(dim, start, length), alpha=weight)
        images = filtered
    return images


def _spread_separably(images: Tensor) -> Tensor:
    """The adjoint of `filter_separably` by `WINDOW`, which is symmetric: each of the last two dimensions grows."""
    if images.is_cuda and is_exact(images):
        sizes = (images.shape[dim] + WINDOW_SIZE - 1 for dim in (-2, -1))
        rows, columns = (_band(tuple(WINDOW), size, images.dtype, images.device) for size in sizes)
        return between(rows.mT, images, columns.mT)
    # It is its own adjoint, over a border of zeros.
    return filter_separably(functional.pad(images, [WINDOW_SIZE - 1] * 4), WINDOW)


@functools.cache
def _band(window: tuple[float, ...], size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`filter_separably` of one dimension as a matrix."""
    kept = size - len(window) + 1
    band = torch.zeros(kept, size, dtype=dtype)
    for start, weight in enumerate(window):
        band.diagonal(start)[:kept] = weight
    return band.to(device)


def _zero_mean_unit_norm(maps: Tensor) -> Tensor:
    """Maps (..., h, w) as they are correlated; 0 for a constant one."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    centred = maps - maps.mean((-2, -1), keepdim=True)
    square = centred.square().sum((-2, -1), keepdim=True)
    # Below this a map differs from a constant by rounding only.
    constant = square <= (16 * torch.finfo(maps.dtype).eps) ** 2 * maps.square().sum((-2, -1), keepdim=True)
    return centred * torch.where(constant, 0, torch.where(constant, 1, square).rsqrt())
