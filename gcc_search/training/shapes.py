"""The embedded data set: textured shapes over clutter, drawn from a seed, with the mask of every object.

A class is a shape and a texture together (CLASSES), so the evidence sits on the object. The object lies anywhere, at
any angle, in any colour, between blobs, strokes and textured patches that tell nothing. A tint of the background
agrees with the class in TINT_AGREES of the images: a network that looks beside the object gains by it, so maps stray,
and what alpha, beta and p do to them shows within minutes.

Lengths are shares of the image's side, so one seed gives one scene at every size.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcc_search.seeding import derive_seed

VERSION = 1
"""Raise it whenever the same seed would give other pixels."""

SHAPES = ("disc", "square", "triangle", "cross")
TEXTURES = ("checked", "halved", "latticed", "quartered", "rayed", "ringed", "spotted", "striped")
CLASSES = TEXTURES

# Chosen so that a small network ends between 75 and 93 %: tests/training/test_shapes.py.
TINT_AGREES = 0.6
RADIUS = (0.13, 0.24)
NUM_DISTRACTORS = (4, 9)
NOISE = 0.06
PERIOD = (0.07, 0.1)
TINT_JITTER = 1.5
PATCHES = 0.3
RINGS = 1.4
NUM = 8

Plane = NDArray[np.float64]
Colour = NDArray[np.float64]
"""Red, green, blue in [0, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    pixels: NDArray[np.uint8]
    """(3, side, side)"""
    mask: NDArray[np.uint8]
    """(side, side), 255 on the object, between at its edge."""
    label: int


def class_of(index: int) -> int:
    """The class of image `index`; classes take turns."""
    return index % len(CLASSES)


def draw_scene(data_seed: int, index: int, side: int) -> Scene:
    """Image `index` of the endless row that `data_seed` begins; depends on nothing else."""
    rng = np.random.default_rng(derive_seed(data_seed, "shapes", index))
    noise = np.random.default_rng(derive_seed(data_seed, "shapes", index, "noise"))
    label = class_of(index)
    texture, shape = CLASSES[label], str(rng.choice(SHAPES))
    canvas = _background(rng, label, side)
    for _ in range(rng.integers(*NUM_DISTRACTORS, endpoint=True)):
        _paint(canvas, *_distractor(rng, side))
    coverage, colours = _object(rng, shape, texture, side)
    _paint(canvas, coverage, colours)
    canvas += noise.normal(0, NOISE, (1, side, side))
    return Scene(pixels=_bytes(canvas), mask=_bytes(coverage), label=label)


def bounding_box(mask: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Top, left, height, width of what is not 0, as fractions of the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left, side = rows[0].item(), columns[0].item(), len(mask)
    return top / side, left / side, (rows[-1].item() + 1 - top) / side, (columns[-1].item() + 1 - left) / side


def _bytes(values: Plane) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _paint(canvas: Plane, coverage: Plane, colours: Plane) -> None:
    canvas += coverage * (colours - canvas)


def _colour(
    rng: np.random.Generator, hue: float, *, value: tuple[float, float], saturation: tuple[float, float]
) -> Colour:
    return np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(*saturation), rng.uniform(*value))).reshape(3, 1, 1)


def _background(rng: np.random.Generator, label: int, side: int) -> Plane:
    """Waves of every scale between two shades of the tint."""
    tinted = label if rng.random() < TINT_AGREES else int(rng.integers(len(CLASSES)))
    hue = (tinted + rng.uniform(-TINT_JITTER, TINT_JITTER)) / len(CLASSES)
    dark = _colour(rng, hue, value=(0.2, 0.4), saturation=(0.3, 0.6))
    light = _colour(rng, hue, value=(0.5, 0.75), saturation=(0.2, 0.5))
    y, x = _grid(side)
    height = np.zeros((side, side))
    for frequency in (1, 2, 4, 8, 16):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        warp = np.sin(2 * np.pi * frequency * (x * np.sin(angle) - y * np.cos(angle)) / 2 + phase)
        height += np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + warp) / frequency**0.5
    share = (height - height.min()) / (height.max() - height.min())
    canvas: Plane = dark + share * (light - dark)
    return canvas


def _distractor(rng: np.random.Generator, side: int) -> tuple[Plane, Plane]:
    """Coverage and colours of a blob, a stroke or a ragged patch that carries either texture, whatever the class."""
    kind = rng.choice(["blob", "stroke", "patch"], p=[0.65-PATCHES, 0.35, PATCHES])
    v, u = _turned(rng, side, margin=0.0)
    size = rng.uniform(0.05, 0.14)
    colours = _colour(rng, rng.random(), value=(0.2, 1.0), saturation=(0.2, 0.9))
    if kind == "stroke":
        bend = rng.uniform(-0.15, 0.15) * np.sin(u / size)
        distance = np.maximum(np.abs(v + bend * size * 3) - 0.012, np.abs(u) - 4 * size)
        return _coverage(distance, side), colours
    ragged = 1 + 0.35 * np.sin(rng.integers(3, 6) * np.arctan2(v, u) + rng.uniform(0, 2 * np.pi))
    distance = np.hypot(u, v * rng.uniform(1.0, 1.6)) - size * ragged
    if kind == "patch":
        colours = _textured(rng, str(rng.choice(TEXTURES)), v, u, side)
    return _coverage(distance, side), colours


def _object(rng: np.random.Generator, shape: str, texture: str, side: int) -> tuple[Plane, Plane]:
    radius = rng.uniform(*RADIUS)
    v, u = _turned(rng, side, margin=radius)
    return _coverage(_distance(shape, v, u, radius), side), _textured(rng, texture, v, u, side)


def _distance(shape: str, v: Plane, u: Plane, radius: float) -> Plane:
    """Signed distance to the outline (about, outside), negative within; every shape covers about the same area."""
    across, down = np.abs(u), np.abs(v)
    if shape == "disc":
        return np.hypot(u, v) - 0.8 * radius
    if shape == "square":
        return np.maximum(across, down) - 0.71 * radius
    if shape == "triangle":
        return np.maximum(0.866 * across + 0.5 * v, -v) - 0.62 * radius
    assert shape == "cross", shape
    long, short = 0.95 * radius, 0.33 * radius
    return np.minimum(np.maximum(across - long, down - short), np.maximum(down - long, across - short))


def _textured(rng: np.random.Generator, texture: str, v: Plane, u: Plane, side: int) -> Plane:
    """Two clearly different shades, a period of the texture apart."""
    hue = rng.random()
    dark = _colour(rng, hue, value=(0.05, 0.35), saturation=(0.4, 0.9))
    light = _colour(rng, hue + rng.uniform(-0.15, 0.15), value=(0.75, 1.0), saturation=(0.1, 0.7))
    if rng.random() < 0.5:
        dark, light = light, dark
    period = rng.uniform(*PERIOD)
    share = np.clip(0.5 + _relief(texture, v / period, u / period) * period * side / 6, 0, 1)
    colours: Plane = dark + share * (light - dark)
    return colours


def _relief(texture: str, v: Plane, u: Plane) -> Plane:
    """Height of the texture, above 0 where it is light; v and u count periods."""
    turn = 2 * np.pi
    match texture:
        case "striped":
            return np.sin(turn * u)
        case "checked":
            return 2 * np.sin(turn * u / 1.3) * np.sin(turn * v / 1.3)
        case "spotted":
            return np.cos(turn * u / 1.2) + np.cos(turn * v / 1.2) - 0.8
        case "ringed":
            return np.sin(turn * np.hypot(u, v) / RINGS)
        case "rayed":
            return np.sin(6 * np.arctan2(v, u))*np.minimum(np.hypot(u,v),1)
        case "waved":
            return np.sin(turn * (u + 0.4 * np.sin(turn * v / 2)))
        case "latticed":
            return np.maximum(np.cos(turn * u / 1.3), np.cos(turn * v / 1.3)) - 0.75
        case "quartered":
            return np.sin(turn * u / 5) * np.sin(turn * v / 5) * 2
        case "halved":
            return np.sin(turn*u/4)
    raise AssertionError(texture)


def _coverage(distance: Plane, side: int) -> Plane:
    """Share of each pixel within the outline, in [0, 1]."""
    return np.clip(0.5 - distance * side, 0, 1)


def _grid(side: int) -> tuple[Plane, Plane]:
    """Pixel centres down and across, in (0, 1)."""
    centres = (np.arange(side) + 0.5) / side
    return centres[:, None], centres[None, :]


def _turned(rng: np.random.Generator, side: int, *, margin: float) -> tuple[Plane, Plane]:
    """Coordinates down and across, seen from a random place at least `margin` within the image, at a random angle."""
    top, left = rng.uniform(margin, 1 - margin, 2)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = _grid(side)
    y, x = y - top, x - left
    return x * np.sin(angle) + y * np.cos(angle), x * np.cos(angle) - y * np.sin(angle)
