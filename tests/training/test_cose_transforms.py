"""COSE's transforms against PIL and torchvision, called as its authors' words have them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch.testing import assert_close
from torchvision.transforms import functional as torchvision_functional

from gcc_search.training.cose_transforms import TRANSFORMS, Geometric, Photometric, draw_amounts, weight_of

BY_NAME = {transform.name: transform for transform in TRANSFORMS}
BY_PIL = {
    "brightness": lambda image, amount: ImageEnhance.Brightness(image).enhance(1 + amount),
    "colour": lambda image, amount: ImageEnhance.Color(image).enhance(1 + amount),
    "contrast": lambda image, amount: ImageEnhance.Contrast(image).enhance(1 + amount),
    "sharpness": lambda image, amount: ImageEnhance.Sharpness(image).enhance(1 + amount),
    "auto-contrast": lambda image, amount: ImageOps.autocontrast(image),
    "equalise": lambda image, amount: ImageOps.equalize(image),
    "blur": lambda image, amount: image.filter(ImageFilter.BLUR),
    "smooth": lambda image, amount: image.filter(ImageFilter.SMOOTH),
}


@pytest.fixture(scope="module")
def frames():
    """Two images, neither black nor white anywhere, of different contrast."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 8, 8, generator=generator)
    fine = (
        torch.nn.functional.interpolate(coarse, 224, mode="bilinear")
        * torch.tensor([100.0, 180.0])[:, None, None, None]
    )
    return (30 + fine).byte()


def as_picture(frame):
    return Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())


def as_frame(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def amounts(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_there_are_thirteen_five_of_which_move_the_heatmap():
    assert len(BY_NAME) == 13
    assert [name for name, transform in BY_NAME.items() if isinstance(transform, Geometric)] == [
        "translate x",
        "translate y",
        "rotate",
        "flip left-right",
        "flip up-down",
    ]
    assert BY_PIL.keys() == {name for name, transform in BY_NAME.items() if isinstance(transform, Photometric)}


@pytest.mark.parametrize("name", BY_PIL)
def test_photometric_transforms_are_pils(frames, name):
    drawn = (-0.66, 0.99) if BY_NAME[name].reach else (0.0, 0.0)
    altered = BY_NAME[name].apply(frames, amounts(*drawn))
    for frame, amount, result in zip(frames, drawn, altered, strict=True):
        assert torch.equal(result, as_frame(BY_PIL[name](as_picture(frame), amount)))
    assert not torch.equal(altered, frames)


@pytest.mark.parametrize("name", BY_PIL)
def test_photometric_transforms_leave_the_heatmap_where_it_is(name):
    heatmaps = torch.rand(2, 16, 16)
    found, valid = BY_NAME[name].undo(heatmaps, amounts(0.5, -0.5))
    assert torch.equal(found, heatmaps)
    assert valid.all()


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("translate x", lambda image, steps: shifted(image, right=int(steps * 32 / 30), down=0)),
        ("translate y", lambda image, steps: shifted(image, right=0, down=int(steps * 32 / 30))),
        ("flip left-right", lambda image, steps: torchvision_functional.hflip(image)),
        ("flip up-down", lambda image, steps: torchvision_functional.vflip(image)),
    ],
)
def test_geometric_transforms_are_torchvisions(frames, name, moved):
    for steps in (1, 7, 15, 29, 30, -1, -16, -30):
        drawn = amounts(*[BY_NAME[name].reach * steps / 30] * 2)
        for frame, result in zip(frames, BY_NAME[name].apply(frames, drawn), strict=True):
            assert torch.equal(result, as_frame(moved(as_picture(frame), steps)))


def shifted(image, *, right, down):
    return torchvision_functional.affine(image, angle=0.0, translate=[right, down], scale=1.0, shear=[0.0, 0.0])


def test_turns_are_torchvisions_up_to_places_between_two_pixels(frames):
    for degrees in (4.5, -31.5, 135.0):
        turned = BY_NAME["rotate"].apply(frames, amounts(degrees, degrees))
        for frame, result in zip(frames, turned, strict=True):
            expected = as_frame(torchvision_functional.rotate(as_picture(frame), degrees))
            assert (expected != result).any(0).float().mean() < 0.005


@pytest.mark.parametrize("name", ["translate x", "translate y", "flip left-right", "flip up-down"])
def test_heatmaps_come_back_as_they_were(name):
    heatmaps = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = amounts(-1, 0.6) * BY_NAME[name].reach
    bytes_of = (255 * heatmaps).byte()
    back, valid = BY_NAME[name].undo(BY_NAME[name].apply(bytes_of[:, None], drawn)[:, 0].double(), drawn)
    assert_close(back[valid], bytes_of.double()[valid], rtol=0, atol=1e-10)
    assert valid.float().mean() > 0.8


def test_the_smallest_translation_of_a_small_image_is_one_pixel():
    frames = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    moved = BY_NAME["translate x"].apply(frames, amounts(32 / 224 / 30))
    assert (moved == 0).all(1).sum() == 16


def test_amounts_are_thirtieths_of_the_reach_either_way_and_never_nothing():
    drawn = draw_amounts(range(2000))
    assert drawn.shape == (2000, 13)
    for transform, values in zip(TRANSFORMS, drawn.unbind(1), strict=True):
        if not transform.reach:
            assert not values.any()
            continue
        steps = 30 * values / transform.reach
        assert_close(steps, steps.round())
        assert set(steps.round().int().tolist()) == {*range(-30, 0), *range(1, 31)}


def test_amounts_depend_on_the_seed_alone():
    assert torch.equal(draw_amounts([5, 9])[1], draw_amounts([9])[0])


def test_a_transform_with_an_amount_counts_as_the_six_that_were_published():
    assert sum(map(weight_of, TRANSFORMS)) == 7 * 6 + 6
