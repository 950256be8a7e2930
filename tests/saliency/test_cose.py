"""COSE's similarity against scikit-image, its mask against a loop over windows."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as skimage_similarity
from torch.testing import assert_close

from gcc_search.saliency.cose import similarity_inside


@pytest.fixture
def pair(generator):
    """Two batches of maps that have something in common; the range of the second is the larger one."""
    a = torch.rand(3, 24, 31, generator=generator, dtype=torch.float64)
    return a, a + torch.rand(3, 24, 31, generator=generator, dtype=torch.float64)


@pytest.fixture
def valid(generator):
    """All of the first map; of the others what a few lost pixels leave."""
    lost = torch.rand(3, 24, 31, generator=generator) > 0.97
    lost[0] = False
    return ~lost


def everywhere(maps):
    return torch.ones_like(maps, dtype=torch.bool)


def test_similarity_is_scikit_images_over_the_windows_that_are_wholly_valid(pair, valid):
    for a, b, mask, similarity in zip(*pair, valid, similarity_inside(*pair, valid), strict=True):
        a, b, mask = a.numpy(), b.numpy(), mask.numpy()
        data_range = max(a.max() - a.min(), b.max() - b.min())
        _, values = skimage_similarity(a, b, win_size=5, full=True, data_range=data_range)
        rows, columns = mask.shape
        inside = [
            (row, column)
            for row in range(2, rows - 2)
            for column in range(2, columns - 2)
            if mask[row - 2 : row + 3, column - 2 : column + 3].all()
        ]
        assert 0 < len(inside) <= (rows - 4) * (columns - 4)
        assert_close(float(similarity), float(np.mean([values[place] for place in inside])), rtol=0, atol=1e-12)


def test_similarity_of_whole_maps_is_scikit_images_own(pair):
    a, b = (maps[0].numpy() for maps in pair)
    expected = skimage_similarity(a, b, win_size=5, data_range=b.max() - b.min())
    assert_close(float(similarity_inside(*pair, everywhere(pair[0]))[0]), float(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_maps_have_similarity_exactly_one(pair, valid, dtype):
    maps = pair[0].to(dtype)
    assert torch.equal(similarity_inside(maps, maps, valid), torch.ones(3, dtype=dtype))


def test_one_factor_for_both_maps_changes_nothing(pair, valid):
    a, b = pair
    assert_close(similarity_inside(1000 * a, 1000 * b, valid), similarity_inside(a, b, valid))


def test_what_lies_beyond_the_mask_changes_nothing_but_the_range(pair, valid):
    a, b = pair
    changed = torch.where(valid, b, b.mean())
    reach = (slice(None), 0, slice(0, 2))
    # So that the ranges stay what they were.
    changed[reach], a[reach], valid[reach] = torch.tensor([b.min(), b.max()]).double(), 0.5, False
    kept = b.clone()
    kept[reach] = changed[reach]
    assert_close(similarity_inside(a, changed, valid), similarity_inside(a, kept, valid))


def test_similarity_of_one_image_ignores_the_rest_of_the_batch(pair, valid):
    a, b = pair
    assert torch.equal(similarity_inside(a[1:2], b[1:2], valid[1:2]), similarity_inside(a, b, valid)[1:2])


def test_similarity_in_float32_is_right_to_five_digits(pair, valid):
    a, b = pair
    expected = similarity_inside(a, b, valid)
    assert_close(similarity_inside(a.float(), b.float(), valid).double(), expected, rtol=0, atol=1e-5)


def test_constant_maps_are_alike_and_one_of_them_is_unlike_any_other(pair):
    constant, other = torch.zeros(1, 24, 31), pair[0][:1].float()
    assert similarity_inside(constant, constant, everywhere(constant)).tolist() == [1.0]
    assert 0 <= float(similarity_inside(constant, other, everywhere(constant))) < 0.05


def test_a_mask_without_a_window_has_no_similarity(pair):
    valid = everywhere(pair[0])
    valid[1, ::5] = False
    similarity = similarity_inside(*pair, valid)
    assert similarity.isnan().tolist() == [False, True, False]
    constant = torch.zeros_like(pair[0])
    assert similarity_inside(constant, constant, valid).isnan().tolist() == [False, True, False]


def test_map_smaller_than_the_window_is_refused():
    small = torch.zeros(1, 4, 7)
    with pytest.raises(ValueError, match="at least 5 pixels on each side, got 4 x 7; upsample"):
        similarity_inside(small, small, everywhere(small))
