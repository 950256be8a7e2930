"""Anybody's image files, decoded as those of a data set are."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from gcc_search.errors import DataError
from gcc_search.training.image_files import read_image_files


@pytest.fixture
def turned(tmp_path):
    """An image whose left half is red, stored lying on its side as cameras do."""
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    return tmp_path / "turned.png"


def test_an_image_stands_upright_and_keeps_its_size_for_the_crop(turned):
    images = read_image_files([turned], side=10)
    assert (images.heights.tolist(), images.widths.tolist(), images.names) == ([20], [40], ("turned.png",))
    red, blue = images.pixels(torch.tensor([0]))[0, :, 5, [1, 8]].T.tolist()
    assert (red, blue) == ([255, 0, 0], [0, 0, 255])


def test_files_keep_their_order_and_have_no_regions(turned):
    other = turned.with_name("other.png")
    Image.new("L", (8, 8)).save(other)
    images = read_image_files([other, turned, other], side=10)
    assert images.names == ("other.png", "turned.png", "other.png")
    assert not images.has_regions


def test_a_file_that_is_no_image_is_one_line(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    with pytest.raises(DataError) as caught:
        read_image_files([tmp_path / "notes.jpg"], side=10)
    got = "got: no image of a known format; leave it out"
    assert str(caught.value) == f"{tmp_path}/notes.jpg: must be an image that can be decoded, {got}"
