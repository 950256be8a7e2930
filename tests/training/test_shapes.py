"""Scenes come from a seed and a number alone; the class sits on the object."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from gcc_search.training import shapes
from gcc_search.training.shapes import CLASSES, bounding_box, class_of, draw_scene


def test_a_scene_depends_on_its_seed_and_number_alone():
    first = draw_scene(7, 3, 48)
    draw_scene(8, 4, 32)
    again = draw_scene(7, 3, 48)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.mask, again.mask)


@pytest.mark.parametrize(("seed", "number"), [(8, 3), (7, 3 + len(CLASSES))])
def test_another_seed_or_number_is_another_scene(seed, number):
    assert not np.array_equal(draw_scene(7, 3, 48).pixels, draw_scene(seed, number, 48).pixels)


@pytest.mark.parametrize("side", [32, 64, 225])
def test_a_scene_has_the_asked_size(side):
    scene = draw_scene(0, 0, side)
    assert scene.pixels.shape == (3, side, side)
    assert scene.mask.shape == (side, side)
    assert scene.pixels.dtype == scene.mask.dtype == np.uint8


def test_a_seed_gives_one_scene_at_every_size():
    large = draw_scene(0, 5, 224).pixels.reshape(3, 56, 4, 56, 4).mean((2, 4))
    small = draw_scene(0, 5, 56).pixels
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.95


def test_classes_take_turns():
    assert [class_of(index) for index in range(2 * len(CLASSES))] == 2 * list(range(len(CLASSES)))


def test_every_object_covers_between_a_twentieth_and_a_third_of_its_image():
    shares = [(draw_scene(1, index, 64).mask / 255).mean() for index in range(200)]
    assert min(shares) > 1 / 20
    assert max(shares) < 1 / 3


@pytest.mark.parametrize("outline", shapes.OUTLINES)
def test_outlines_cover_about_the_same_area(outline):
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    area = (shapes._distance(outline, y, x, 1.0) < 0).mean() * 4
    assert 1.6 < area < 2.3


def test_textures_are_as_light_as_dark_within_a_factor():
    """Else mean brightness would tell some class."""
    y, x = np.mgrid[-2.5:2.5:200j, -2.5:2.5:200j]
    for texture in CLASSES:
        assert 0.2 < (shapes._relief(texture, y, x) > 0).mean() < 0.8


def test_the_box_bounds_the_mask():
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[2:5, 4:9] = 1
    assert bounding_box(mask) == (0.2, 0.4, 0.3, 0.5)


def hue_of_background(index: int) -> float:
    scene = draw_scene(0, index, 32)
    background = scene.pixels[:, scene.mask == 0] / 255
    return colorsys.rgb_to_hsv(*np.median(background, axis=1))[0]


def test_the_tint_agrees_with_the_class_more_often_than_chance_and_far_from_always():
    """Nearest hue, over classes evenly spaced on the circle; chance is 1 in 8."""
    agreed = [round(hue_of_background(index) * len(CLASSES)) % len(CLASSES) == class_of(index) for index in range(400)]
    assert 0.3 < np.mean(agreed) < 0.7


def test_the_mask_covers_the_texture_and_nothing_around_it():
    """Within the mask neighbouring pixels differ more than around it: the texture has contrast."""
    inside, outside = [], []
    for index in range(40):
        scene = draw_scene(2, index, 64)
        spread = np.abs(np.diff(scene.pixels.astype(float).mean(0), axis=1))
        covered = (scene.mask[:, 1:] == 255) & (scene.mask[:, :-1] == 255)
        inside.append(spread[covered].mean())
        outside.append(spread[(scene.mask[:, 1:] == 0) & (scene.mask[:, :-1] == 0)].mean())
    assert np.mean(inside) > 1.5 * np.mean(outside)
