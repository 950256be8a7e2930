"""What maps' cells alone tell of their pixels."""

import pytest
import torch
from torch.testing import assert_close

from gcc_search.saliency.geometry import draw_transforms, move_maps
from gcc_search.saliency.losses import upsample
from gcc_search.saliency.products import between, multiply
from gcc_search.saliency.resampling import make_resampling, stretching_of_whole

SIZES = [(7, 224), (8, 64), (12, 64), (2, 50), (3, 11), (12, 11), (1, 32)]


@pytest.mark.parametrize("scale", [0.5, 0.08, 0.001])
@pytest.mark.parametrize(("cells", "size"), SIZES)
def test_extremes_and_variances_are_those_of_all_pixels(generator, cells, size, scale):
    maps = torch.randn(3, 16, cells, cells, generator=generator, dtype=torch.float64)
    frame = torch.full((16,), size)
    transforms = draw_transforms(frame, frame, scale=(scale, 2 * scale), generator=generator)
    stretching = make_resampling(transforms, cells, size, torch.float64, in_windows=False).stretching(3)
    pixels = torch.stack([move_maps(transforms, maps[0], size), upsample(maps[1], size), upsample(maps[2], size)])
    found = between(stretching.extremes[0], maps, stretching.extremes[1])
    for extreme in (torch.amin, torch.amax):
        assert_close(extreme(found, (-2, -1)), extreme(pixels, (-2, -1)), rtol=0, atol=1e-12)
    line = maps.flatten(-2)[..., None]
    variances = multiply(multiply(line.mT, stretching.spread), line).flatten(1)
    assert_close(variances, pixels.var((-2, -1), correction=0), rtol=1e-9, atol=1e-12)


def test_extremes_are_looked_for_among_few_pixels():
    rows, columns = stretching_of_whole(7, 5, 224, torch.device("cpu"), torch.float32).extremes
    assert (rows.shape, columns.shape) == ((28, 7), (20, 5))


@pytest.mark.parametrize("in_windows", [True, False])
def test_the_matrices_are_what_their_tensors_were(generator, in_windows):
    frame = torch.full((2,), 64)
    transforms = draw_transforms(frame, frame, scale=(0.08, 1.0), generator=generator)
    made = make_resampling(transforms, 7, 64, torch.float32, in_windows=in_windows)
    again = type(made).of_tensors(*made.tensors())
    assert again.in_windows == in_windows
    assert all(one is other for one, other in zip(again.tensors(), made.tensors(), strict=True))
    assert again.extremes.shape == (2, 3, 2, 28, 7)
