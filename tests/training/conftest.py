"""Small data sets in their authors' layouts: real files, a few pixels each; and a network to measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.showing import prepare

SavePhoto = Callable[..., Path]


@pytest.fixture(scope="module")
def differing_network(shapes) -> Network:
    """Untrained, but with batch statistics of the images and with predictions that differ from image to image."""
    network = build_network("convnet_small", num_classes=8, weights="none", seed=3)
    x = prepare(shapes.train.pixels(torch.arange(64)), torch.device("cpu"))
    with torch.no_grad():
        for _ in range(30):
            network(x)
        pooled = network.eval().features(x).mean((0, 2, 3))
        network.model.fc.bias.copy_(-network.model.fc.weight @ pooled)
    return network


@pytest.fixture
def save_photo() -> SavePhoto:
    """Saves a random photograph, by default 30 wide and 20 high; the seed decides its pixels."""

    def save(path: Path, *, seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size).convert(mode).save(path)
        return path

    return save


@pytest.fixture
def image_folder(tmp_path: Path, save_photo: SavePhoto) -> Path:
    """Two classes, `cat` and `dog`, of ten images each."""
    root = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            save_photo(root / name / f"{number}.jpg", seed=100 * label + number)
    return root


@pytest.fixture
def caltech_root(tmp_path: Path, save_photo: SavePhoto) -> Path:
    """Three classes of five images, one grey, and clutter; boxes for `ant`, and for `Faces` in the official folder."""
    root = tmp_path / "data"
    images, annotations = root / "caltech101" / "101_ObjectCategories", root / "caltech101" / "Annotations"
    for label, name in enumerate(("ant", "beaver", "Faces", "BACKGROUND_Google")):
        for number in range(1, 6):
            mode = "L" if (name, number) == ("beaver", 2) else "RGB"
            save_photo(images / name / f"image_{number:04d}.jpg", seed=100 * label + number, mode=mode)
    for folder in ("ant", "Faces_2"):
        (annotations / folder).mkdir(parents=True)
        for number in range(1, 6):
            # Rows 6 to 15 and columns 4 to 9, counted from 1, of an image 20 high and 30 wide.
            box = np.array([[6, 15, 4, 9]], dtype=np.uint8)
            contour = np.zeros((2, 7))
            path = annotations / folder / f"annotation_{number:04d}.mat"
            scipy.io.savemat(path, {"box_coord": box, "obj_contour": contour})
    return root


@pytest.fixture
def cub_root(tmp_path: Path, save_photo: SavePhoto) -> Path:
    """Two birds of six images each, four to train and two to test; beside them a stray image that no list names."""
    folder = tmp_path / "data" / "CUB_200_2011"
    lists: dict[str, list[str]] = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    boxes = []
    for number in range(12):
        bird, image = number // 6 + 1, number + 1
        name = f"00{bird}.Bird_{bird}/Bird_{bird}_{image:04d}.jpg"
        save_photo(folder / "images" / name, seed=number)
        lists["images"].append(f"{image} {name}")
        lists["image_class_labels"].append(f"{image} {bird}")
        lists["train_test_split"].append(f"{image} {int(number % 6 < 4)}")
        boxes.append(f"{image} 3.0 5.0 6.0 10.0")
    for name, lines in {**lists, "bounding_boxes": boxes, "classes": ["1 001.Bird_1", "2 002.Bird_2"]}.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    save_photo(folder / "images" / "001.Bird_1" / "stray.jpg", seed=99)
    return tmp_path / "data"
