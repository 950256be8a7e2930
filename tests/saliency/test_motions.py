"""Motions of images against PIL, and back again with the mask of a loop over pixels."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageOps
from torch.testing import assert_close

from gcc_search.saliency.motions import Motions

SIDE = 24


@pytest.fixture
def frames(generator):
    """Two images without a black pixel."""
    return torch.randint(1, 256, (2, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def amounts(*values):
    return torch.tensor(values, dtype=torch.float64)


MOTIONS = {
    "shifts": Motions.shifted(amounts(3, -7), amounts(-5, 0)),
    "small turns": Motions.rotated(amounts(4.5, -13.5)),
    "large turns": Motions.rotated(amounts(135, -90)),
    "left to right": Motions.mirrored(amounts(0, 0), rows=False),
    "upside down": Motions.mirrored(amounts(0, 0), rows=True),
}
EXACT = ("shifts", "left to right", "upside down")


def as_picture(frame):
    return Image.fromarray(frame.permute(1, 2, 0).numpy())


def as_array(frame):
    return frame.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("degrees", "ties"), [(4.5, 1), (-13.5, 1), (31.5, 1), (45, 1), (90, 0), (-121.5, 1), (135, SIDE)]
)
def test_a_turn_is_pils(frames, degrees, ties):
    moved = Motions.rotated(amounts(degrees, degrees)).apply(frames)
    for frame, result in zip(frames, moved, strict=True):
        expected = np.asarray(as_picture(frame).rotate(degrees, Image.Resampling.NEAREST))
        # PIL reckons places in 65,536ths of a pixel: one in between two may fall to the other, or all of a diagonal.
        assert (expected != as_array(result)).any(-1).sum() <= ties


def test_a_shift_is_pils_with_black_where_nothing_was(frames):
    moved = Motions.shifted(amounts(3, -7), amounts(-5, 0)).apply(frames)
    for frame, result, down, right in zip(frames, moved, (3, -7), (-5, 0), strict=True):
        expected = np.array(ImageChops.offset(as_picture(frame), right, down))
        expected[: max(down, 0)] = expected[SIDE + min(down, 0) :] = 0
        expected[:, : max(right, 0)] = expected[:, SIDE + min(right, 0) :] = 0
        assert np.array_equal(as_array(result), expected)


@pytest.mark.parametrize(("rows", "mirror"), [(False, ImageOps.mirror), (True, ImageOps.flip)])
def test_a_mirrored_image_is_pils(frames, rows, mirror):
    moved = Motions.mirrored(amounts(0, 0), rows=rows).apply(frames)
    for frame, result in zip(frames, moved, strict=True):
        assert np.array_equal(as_array(result), np.asarray(mirror(as_picture(frame))))


@pytest.mark.parametrize("name", EXACT)
def test_whole_pixels_come_back_as_they_were_wherever_they_were_not_lost(frames, name):
    motions = MOTIONS[name]
    back, valid = motions.undo(motions.apply(frames)[:, 0].double())
    assert_close(back[valid], frames[:, 0].double()[valid], rtol=0, atol=1e-10)
    assert not back[~valid].any()
    assert valid.float().mean() > 0.6


@pytest.mark.parametrize("name", ["small turns", "large turns"])
def test_a_turned_plane_comes_back_to_a_pixel(name):
    """The nearest pixel is at most 0.71 away; bilinear sampling of a plane adds nothing."""
    steps = torch.arange(SIDE, dtype=torch.uint8)
    plane = (steps[:, None] + 5 * steps).expand(2, 1, SIDE, SIDE) + 1
    back, valid = MOTIONS[name].undo(MOTIONS[name].apply(plane)[:, 0].double())
    # Where a corner of what is sampled was beyond the frame, black comes in.
    inner = torch.zeros_like(valid)
    inner[:, 6:-6, 6:-6] = True
    assert (back - plane[:, 0])[valid & inner].abs().max() <= math.sqrt(0.5) * math.hypot(1, 5)


@pytest.mark.parametrize("name", MOTIONS)
def test_valid_is_what_the_motion_leaves_in_the_frame(name):
    motions = MOTIONS[name]
    _, valid = motions.undo(torch.zeros(2, SIDE, SIDE))
    for turn, shift, mask in zip(motions.turns.numpy(), motions.shifts.numpy(), valid.numpy(), strict=True):
        half = (SIDE - 1) / 2
        for row in range(SIDE):
            for column in range(SIDE):
                place = np.linalg.inv(turn) @ (np.array([row - half, column - half]) - shift)
                assert mask[row, column] == (np.abs(place) <= half + 1e-9).all()


def test_a_bright_spot_moves_where_a_viewer_expects_it():
    frame = torch.zeros(4, 1, 9, 9, dtype=torch.uint8)
    # Two to the right of the centre.
    frame[:, :, 4, 6] = 255
    turned = Motions.rotated(amounts(90)).apply(frame[:1])
    shifted = Motions.shifted(amounts(1), amounts(2)).apply(frame[:1])
    assert turned.nonzero().tolist() == [[0, 0, 2, 4]]
    assert shifted.nonzero().tolist() == [[0, 0, 5, 8]]


def test_a_motion_of_one_image_ignores_the_rest_of_the_batch(frames):
    whole = Motions.rotated(amounts(4.5, -13.5))
    alone = Motions.rotated(amounts(-13.5))
    assert torch.equal(whole.apply(frames)[1:], alone.apply(frames[1:]))
    heatmaps = frames[:, 0].float()
    for together, single in zip(whole.undo(heatmaps), alone.undo(heatmaps[1:]), strict=True):
        assert torch.equal(together[1:], single)
