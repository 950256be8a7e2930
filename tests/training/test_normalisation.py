"""Images as networks see them, in new colours."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gcc_search.saliency.photometry import Photometry, apply_photometry, draw_photometry
from gcc_search.training.normalisation import recoloured
from gcc_search.training.showing import prepare

CPU = torch.device("cpu")


@pytest.fixture
def pixels(shapes) -> torch.Tensor:
    return shapes.train.pixels(torch.arange(8))


def test_colours_are_changed_as_colours_and_not_as_a_network_sees_them(pixels):
    photometry = draw_photometry(8, strength=1.0, generator=torch.Generator().manual_seed(0))
    found = recoloured(prepare(pixels, CPU), photometry)
    expected = prepare(255 * apply_photometry(photometry, pixels / 255), CPU)
    assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_identity_changes_nothing_neither_layout_nor_precision(pixels, memory_format, dtype):
    images = prepare(pixels, CPU).to(dtype).contiguous(memory_format=memory_format)
    found = recoloured(images, Photometry.identity(8))
    assert_close(found, images, rtol=0, atol=1e-5)
    assert found.stride() == images.stride()


def test_what_is_no_colour_is_cut_off_first():
    images = torch.tensor([-9.0, 9.0])[:, None, None, None].expand(2, 3, 4, 4)
    darker = Photometry(values=torch.tensor([[0.5, 1.0, 1.0, 0.0, 0.0]]).repeat(2, 1))
    black_and_grey = torch.tensor([0.0, 127.5])[:, None, None, None].expand(2, 3, 4, 4)
    assert_close(recoloured(images, darker), prepare(black_and_grey, CPU))
