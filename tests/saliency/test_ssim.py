"""SSIM against scikit-image and kornia; Pearson's correlation against numpy."""

import kornia
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_similarity
from torch.testing import assert_close

from gcc_search.saliency.ssim import filter_separably, gaussian_window, pearson_correlation, structural_similarity


@pytest.fixture
def pair(generator):
    """Two batches of heatmaps that have something in common."""
    a = torch.rand(3, 24, 31, generator=generator, dtype=torch.float64)
    return a, (a + 0.5 * torch.rand(3, 24, 31, generator=generator, dtype=torch.float64)) / 1.5


def test_similarity_is_scikit_images_where_the_window_lies_inside(pair):
    for a, b, similarity in zip(*pair, structural_similarity(*pair), strict=True):
        # truncate 3.5 times sigma 1.5 makes scikit-image's window 11 wide.
        options = {
            "gaussian_weights": True,
            "sigma": 1.5,
            "use_sample_covariance": False,
            "data_range": 1,
            "full": True,
        }
        _, values = skimage_similarity(a.numpy(), b.numpy(), **options)
        assert_close(float(similarity), float(values[5:-5, 5:-5].mean()), rtol=0, atol=1e-12)


def test_similarity_is_kornias_without_its_half_and_its_border(pair):
    a, b = (maps[:, None] for maps in pair)
    half = kornia.losses.ssim_loss(a, b, 11, reduction="none", padding="valid").mean((1, 2, 3))
    assert_close(structural_similarity(*pair), 1 - 2 * half, rtol=0, atol=1e-6)


def test_equal_maps_have_similarity_exactly_one(pair):
    assert torch.equal(structural_similarity(pair[0], pair[0]), torch.ones(3, dtype=torch.float64))


def test_similarity_of_two_constants_is_their_luminance_term():
    a, b = torch.full((1, 11, 11), 0.2, dtype=torch.float64), torch.full((1, 11, 11), 0.8, dtype=torch.float64)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert_close(float(structural_similarity(a, b)), expected)


def test_similarity_is_symmetric_and_unmoved_by_flips(pair):
    a, b = pair
    assert_close(structural_similarity(a, b), structural_similarity(b, a))
    assert_close(structural_similarity(a, b), structural_similarity(a.flip(1, 2), b.flip(1, 2)))


def test_similarity_of_one_image_ignores_the_rest_of_the_batch(pair):
    a, b = pair
    assert_close(structural_similarity(a, b)[1:2], structural_similarity(a[1:2], b[1:2]))


def test_similarity_in_float32_is_right_to_five_digits(pair):
    a, b = pair
    assert_close(structural_similarity(a.float(), b.float()).double(), structural_similarity(a, b), rtol=0, atol=1e-5)


def test_similarity_is_float32_under_autocast_and_for_half_precision(pair):
    a, b = (maps.bfloat16() for maps in pair)
    with torch.autocast("cpu", torch.bfloat16):
        similarity = structural_similarity(a, b)
    assert torch.equal(similarity, structural_similarity(a.float(), b.float()))


def test_gradients_of_similarity_are_those_of_finite_differences(pair):
    a, b = (maps[:1, :12, :13].clone().requires_grad_() for maps in pair)
    assert torch.autograd.gradcheck(structural_similarity, (a, b))


def test_map_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="at least 11 pixels on each side, got 7 x 7; upsample"):
        structural_similarity(torch.zeros(1, 7, 7), torch.zeros(1, 7, 7))


def test_gaussian_window_sums_to_one_and_is_symmetric():
    window = gaussian_window(11, 1.5)
    assert len(window) == 11
    assert sum(window) == pytest.approx(1, abs=1e-15)
    assert window == window[::-1]


def test_filter_is_a_correlation_with_the_windows_outer_product(generator):
    images = torch.rand(2, 3, 9, 8, generator=generator, dtype=torch.float64)
    window = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    kernel = torch.outer(window, window).expand(3, 1, 3, 3)
    expected = torch.nn.functional.conv2d(images, kernel, groups=3)
    assert_close(filter_separably(images, window.tolist()), expected)


def test_correlation_is_numpys(pair):
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(*pair, strict=True)]
    assert_close(pearson_correlation(*pair), torch.tensor(expected, dtype=torch.float64))


def test_correlation_ignores_scale_and_offset_but_not_sign(pair):
    a, b = pair
    assert_close(pearson_correlation(3 * a + 2, b), pearson_correlation(a, b))
    assert_close(pearson_correlation(-a, b), -pearson_correlation(a, b))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_correlation_with_a_constant_is_zero_with_finite_gradients(pair, value):
    a = pair[0].float().requires_grad_()
    constant = torch.full_like(a, value, requires_grad=True)
    correlation = pearson_correlation(a, constant)
    assert torch.equal(correlation, torch.zeros(3))
    correlation.sum().backward()
    assert a.grad.isfinite().all()
    assert constant.grad.isfinite().all()


def test_gradients_of_correlation_are_those_of_finite_differences(pair):
    a, b = (maps[:2, :4, :5].clone().requires_grad_() for maps in pair)
    assert torch.autograd.gradcheck(pearson_correlation, (a, b))
