"""The terms from raw maps against those of their heatmaps."""

import pytest
import torch
from torch.testing import assert_close

from gcc_search.saliency.geometry import Transforms, draw_transforms, move_maps
from gcc_search.saliency.losses import consistency_loss, normalise, sparsity_loss, upsample
from gcc_search.saliency.raw_losses import explanation_terms, raw_sparsity
from gcc_search.saliency.resampling import is_worthwhile, make_resampling

DISTANCES = ["ssim", "correlation"]
EXPONENTS = [0.0, 0.5, 1.0, 2.0]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: only the CPU's terms")


def draw(generator, count: int, size: int, scale: float = 0.08) -> Transforms:
    frame = torch.full((count,), size)
    return draw_transforms(frame, frame, scale=(scale, 1.0), generator=generator)


def terms_of_heatmaps(maps, transforms, size, p, distance="ssim"):
    first, second = maps.chunk(2)
    heatmaps = normalise(move_maps(transforms, first, size)), normalise(upsample(second, size))
    return consistency_loss(*heatmaps, distance=distance), sparsity_loss(normalise(upsample(first, size)), p=p)


def terms_of_raw_maps(maps, transforms, size, p, distance="ssim"):
    transforms, in_windows = transforms.to(maps.device), distance == "ssim"
    matrices = make_resampling(transforms, maps.shape[2], size, maps.dtype, in_windows=in_windows)
    return explanation_terms(maps, matrices, p=p, size=size)


def gradient(terms, maps):
    consistency, sparsity = terms
    weights = torch.linspace(1, 2, len(consistency), dtype=maps.dtype, device=maps.device)
    (found,) = torch.autograd.grad((weights * (3 * consistency + 2 * sparsity)).sum(), maps)
    return found


@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("cells", "size"), [(7, 224), (8, 64), (4, 32)])
def test_the_terms_are_those_of_the_heatmaps(generator, cells, size, distance, p):
    maps = torch.randn(6, cells, cells, generator=generator, dtype=torch.float64).requires_grad_()
    transforms = draw(generator, 3, size)
    expected = terms_of_heatmaps(maps, transforms, size, p, distance)
    terms = terms_of_raw_maps(maps, transforms, size, p, distance)
    assert_close(terms, expected, rtol=0, atol=1e-12)
    assert_close(gradient(terms, maps), gradient(expected, maps), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("in_windows", [True, False])
def test_without_sparsity_consistency_is_the_same(generator, in_windows):
    maps = torch.randn(4, 7, 7, generator=generator, dtype=torch.float64).requires_grad_()
    matrices = make_resampling(draw(generator, 2, 64), 7, 64, maps.dtype, in_windows=in_windows)
    consistency, sparsity = explanation_terms(maps, matrices, p=None, size=64)
    assert sparsity is None
    both, _ = explanation_terms(maps, matrices, p=1.0, size=64)
    assert torch.equal(consistency, both)
    assert_close(*(torch.autograd.grad(term.sum(), maps)[0] for term in (consistency, both)))


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_maps_are_perfectly_consistent(generator, distance):
    maps = torch.randn(3, 7, 7, generator=generator, dtype=torch.float64)
    consistency, _ = terms_of_raw_maps(maps.repeat(2, 1, 1), Transforms.identity(3), 32, 1.0, distance)
    assert_close(consistency, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-10)


def test_terms_of_one_image_ignore_the_rest_of_the_batch(generator):
    maps, transforms = torch.randn(6, 7, 7, generator=generator), draw(generator, 3, 64)
    whole = terms_of_raw_maps(maps, transforms, 64, 1.0)
    alone = terms_of_raw_maps(maps[[1, 4]], transforms.select([1]), 64, 1.0)
    for of_all, of_one in zip(whole, alone, strict=True):
        assert_close(of_all[1:2], of_one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("p", EXPONENTS)
def test_a_flat_map_has_no_gradient_and_is_empty(generator, distance, p):
    """The first image's maps are constant, the second's moved map is where its crop lies."""
    maps = torch.randn(4, 8, 8, generator=generator, dtype=torch.float64)
    maps[0], maps[2], maps[1, :4] = 3.0, -1.0, 0.0
    maps.requires_grad_()
    corner = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.4, 0.4]], dtype=torch.float64)
    transforms = Transforms(boxes=corner, flips=torch.tensor([False, True]))
    expected = terms_of_heatmaps(maps, transforms, 64, p, distance)
    terms = terms_of_raw_maps(maps, transforms, 64, p, distance)
    assert_close(terms, expected, rtol=0, atol=1e-12)
    found = gradient(terms, maps)
    assert not found[[0, 2]].any()
    assert_close(found, gradient(expected, maps))


def test_an_extremes_gradient_is_shared_by_the_cells_that_reach_it(generator):
    """Of many pixels that reach it raw maps show some: how much each of its cells gets is not the same both ways."""
    maps = torch.randn(2, 7, 7, generator=generator, dtype=torch.float64)
    maps[0] = maps[0].relu()
    is_higher = maps > 0
    is_higher[1] = True
    maps.requires_grad_()
    transforms = draw(generator, 1, 64)
    ours, expected = (gradient(way(maps, transforms, 64, 1.0), maps) for way in (terms_of_raw_maps, terms_of_heatmaps))
    assert_close(ours[is_higher], expected[is_higher])
    assert_close(ours.sum((1, 2)), expected.sum((1, 2)))


def test_a_map_that_is_its_mirror_image_has_a_gradient_that_is(generator):
    """Whole numbers in sixteenths: no rounding decides which of two pixels is the greater."""
    half = torch.randint(4, (8, 7, 4), generator=generator).double()
    maps = torch.cat([half, half[..., :3].flip(2)], 2).requires_grad_()
    (found,) = torch.autograd.grad(raw_sparsity(maps, 56, p=1.0).sum(), maps)
    assert found.any()
    assert_close(found, found.flip(2))


def test_a_map_that_is_not_finite_has_terms_that_are_not(generator):
    maps = torch.randn(4, 7, 7, generator=generator)
    maps[0, 3, 3] = torch.nan
    consistency, sparsity = terms_of_raw_maps(maps, draw(generator, 2, 64), 64, 1.0)
    assert torch.isfinite(consistency).tolist() == [False, True]
    assert torch.isfinite(sparsity).tolist() == [False, True]


@pytest.mark.parametrize("scale", [0.08, 0.001])
@pytest.mark.parametrize(("cells", "size"), [(7, 224), (2, 64), (12, 224)])
def test_single_precision_costs_next_to_nothing(generator, cells, size, scale):
    """Crops between two cells as well, whose maps are stretched until the cells beside them are far outside."""
    exact = (2 + torch.randn(16, cells, cells, generator=generator, dtype=torch.float64)).requires_grad_()
    rounded = exact.detach().float().requires_grad_()
    frame = torch.full((8,), size)
    transforms = draw_transforms(frame, frame, scale=(scale, 2 * scale), generator=generator)
    expected = terms_of_heatmaps(exact, transforms, size, 1.0)
    of_exact, errors = gradient(expected, exact), []
    for way in (terms_of_raw_maps, terms_of_heatmaps):
        terms = way(rounded, transforms, size, 1.0)
        errors.append((gradient(terms, rounded).double() - of_exact).norm() / of_exact.norm())
        assert_close([term.double() for term in terms], list(expected), rtol=0, atol=1e-4)
    assert errors[0] < 1e-4
    # In a usual crop it is less than by way of the pixels.
    assert errors[0] < errors[1] or scale < 0.08


@pytest.mark.parametrize(
    ("cells", "size", "device", "distance", "expected"),
    [
        (7, 224, "cpu", "ssim", True),
        (28, 448, "cuda", "ssim", False),
        (2, 10, "cuda", "ssim", False),
        (8, 64, "cpu", "ssim", False),
        (8, 64, "cuda", "ssim", True),
        (8, 64, "cpu", "correlation", True),
    ],
)
def test_maps_of_many_cells_are_compared_by_their_pixels(cells, size, device, distance, expected):
    assert is_worthwhile(cells, size, torch.device(device), in_windows=distance == "ssim") == expected


def test_autocast_rounds_nothing(generator):
    maps, transforms = torch.randn(4, 7, 7, generator=generator), draw(generator, 2, 64)
    expected = terms_of_raw_maps(maps, transforms, 64, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(terms_of_raw_maps(maps, transforms, 64, 1.0), expected, rtol=0, atol=0)


@needs_cuda
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_terms_and_their_gradient_are_the_same_on_a_gpu(generator, distance):
    maps, transforms = torch.randn(8, 7, 7, generator=generator), draw(generator, 4, 224)
    found, terms = [], []
    for device in ("cpu", "cuda"):
        own = maps.to(device).requires_grad_()
        terms.append(terms_of_raw_maps(own, transforms, 224, 1.0, distance))
        found.append(gradient(terms[-1], own).cpu())
    assert_close([term.cpu() for term in terms[1]], list(terms[0]), rtol=1e-4, atol=1e-4)
    assert (found[1] - found[0]).norm() < 2e-3 * found[0].norm()


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (0, 1e-3), (100, 1)])
def test_correlation_without_a_pixel_is_that_of_the_pixels(offset, scale, generator):
    maps = offset + scale * torch.randn(32, 7, 7, generator=generator)
    maps[3], maps[20], maps[5] = 5, 2, 0
    transforms = draw(generator, 16, 56)
    expected, _ = terms_of_heatmaps(maps.double(), transforms, 56, 1.0, "correlation")
    found, _ = terms_of_raw_maps(maps, transforms, 56, None, "correlation")
    assert_close(found, expected.float(), rtol=0, atol=1e-6)
    assert found[3:6].tolist() == [1, 1, 1]
