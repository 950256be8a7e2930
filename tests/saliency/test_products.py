"""Products keep the precision of their factors."""

import pytest
import torch
from torch.testing import assert_close

from gcc_search.saliency.products import is_exact, multiply
from gcc_search.saliency.ssim import WINDOW, _band, _mean_similarity_gradient, filter_separably, structural_similarity

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: no TF32 to keep out")


@pytest.fixture
def factors():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 20, 30, generator=generator), torch.rand(3, 30, 10, generator=generator)


def test_autocast_does_not_round_a_product(factors):
    with torch.autocast("cpu", torch.bfloat16):
        product = multiply(*factors)
    assert product.dtype == torch.float32
    assert_close(product, factors[0] @ factors[1])


@pytest.fixture
def as_before():
    """What a test sets of torch's precision is gone after it."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("setting", ["highest", "high", "medium"])
def test_settings_made_elsewhere_do_not_round_a_product(factors, as_before, setting, device):
    """bfloat16 on CPUs that have it, TF32 on GPUs."""
    torch.set_float32_matmul_precision(setting)
    product = multiply(*(factor.to(device) for factor in factors)).cpu()
    assert_close(product.double(), factors[0].double() @ factors[1].double(), rtol=1e-6, atol=0)


def test_settings_made_one_by_one_do_not_round_a_product_either(factors, as_before):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    assert not is_exact(factors[0])
    assert is_exact(factors[0].double())
    assert_close(multiply(*factors).double(), factors[0].double() @ factors[1].double(), rtol=1e-6, atol=0)


def test_a_band_of_weights_is_the_window_that_slides(factors):
    images = factors[0].double()[:, None]
    rows, columns = (_band(tuple(WINDOW), size, images.dtype, images.device) for size in (20, 30))
    assert_close(multiply(multiply(rows, images), columns.mT), filter_separably(images, WINDOW))


@needs_cuda
def test_similarity_and_its_gradient_are_the_same_on_a_gpu():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(4, 64, 64, generator=generator) for _ in range(2))
    gradient = torch.rand(4, generator=generator)
    assert_close(structural_similarity(a.cuda(), b.cuda()).cpu(), structural_similarity(a, b), rtol=1e-4, atol=1e-5)
    on_gpu = _mean_similarity_gradient(gradient.cuda(), a.cuda(), b.cuda())
    for found, expected in zip(on_gpu, _mean_similarity_gradient(gradient, a, b), strict=True):
        assert (found.cpu() - expected).norm() / expected.norm() < 1e-4
