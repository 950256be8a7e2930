"""Any photograph becomes upright RGB, squashed whole; what cannot be decoded becomes a reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.testing import assert_allclose
from PIL import Image

from gcc_search.errors import DataError
from gcc_search.training.decoding import decode
from gcc_search.training.image_cache import Picture
from gcc_search.training.listings import Source, Stamp, stamp_of


def source(path: Path, **more: object) -> Source:
    stamp = stamp_of(path.name, path)
    assert isinstance(stamp, Stamp)
    return Source(file=stamp, label=0, **more)


def save_grey(path: Path, mode: str, value: float, dtype: type) -> Path:
    image = Image.fromarray(np.full((20, 30), value, dtype=dtype))
    assert image.mode == mode
    image.save(path)
    return path


def pixels_of(picture: Picture) -> np.ndarray:
    assert picture.pixels is not None, picture.unreadable
    return picture.pixels


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA"])
def test_every_png_becomes_rgb(tmp_path, save_photo, mode):
    picture = decode(source(save_photo(tmp_path / "a.png", mode=mode)), 16)
    assert pixels_of(picture).shape == (3, 16, 16)
    assert (picture.height, picture.width) == (20, 30)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_jpeg_becomes_rgb(tmp_path, save_photo, mode):
    reference = pixels_of(decode(source(save_photo(tmp_path / "reference.tif", mode=mode)), 16)).astype(int)
    decoded = pixels_of(decode(source(save_photo(tmp_path / "a.jpg", mode=mode)), 16))
    assert np.abs(decoded - reference).mean() < 10


def test_a_palette_with_transparency_becomes_rgb(tmp_path):
    image = Image.new("P", (30, 20), color=1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "a.png", transparency=b"\x00\xff")
    assert_allclose(pixels_of(decode(source(tmp_path / "a.png"), 4))[:, 0, 0], [200, 100, 50])


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    path = save_grey(tmp_path / "a.png", "I;16", 0x8000, np.uint16)
    assert_allclose(pixels_of(decode(source(path), 4)), 0x80)


def test_pixels_without_a_known_range_are_refused(tmp_path):
    picture = decode(source(save_grey(tmp_path / "a.tif", "F", 0.5, np.float32)), 4)
    assert picture.unreadable == "pixels of mode F have no known range"


def test_the_whole_image_is_squashed(tmp_path):
    halves = np.zeros((20, 60, 3), dtype=np.uint8)
    halves[:, 30:] = 255
    Image.fromarray(halves).save(tmp_path / "a.png")
    pixels = pixels_of(decode(source(tmp_path / "a.png"), 8))
    assert pixels[:, :, :3].max() == 0
    assert pixels[:, :, 5:].min() == 255


def test_a_photograph_is_turned_upright_by_its_exif(tmp_path):
    wide = np.zeros((20, 30, 3), dtype=np.uint8)
    wide[:, :15] = 255
    exif = Image.Exif()
    # Orientation 6: the camera was turned; the stored left is the top.
    exif[0x0112] = 6
    Image.fromarray(wide).save(tmp_path / "a.png", exif=exif)
    picture = decode(source(tmp_path / "a.png"), 8)
    assert (picture.height, picture.width) == (30, 20)
    assert pixels_of(picture)[:, 0].min() == 255
    assert pixels_of(picture)[:, -1].max() == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "no image of a known format"), (b"<html>not found</html>", "no image of a known format")],
)
def test_what_is_no_image_becomes_a_reason(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    picture = decode(source(tmp_path / "a.jpg"), 8)
    assert (picture.pixels, picture.unreadable) == (None, reason)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_half_a_file_becomes_a_reason_of_one_line(tmp_path, save_photo, suffix):
    path = save_photo(tmp_path / f"a.{suffix}", size=(300, 200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    picture = decode(source(path), 8)
    assert picture.pixels is None
    assert picture.unreadable
    assert "\n" not in picture.unreadable


def test_a_file_that_vanished_is_an_error_and_not_a_property_of_the_image(tmp_path, save_photo):
    listed = source(save_photo(tmp_path / "a.jpg"))
    listed.file.path.unlink()
    with pytest.raises(DataError, match=r"a\.jpg: file must be readable, got: No such file"):
        decode(listed, 8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_a_box_counts_rows_and_columns_from_one(tmp_path, save_photo, dtype):
    """The last row stored as uint8 is 250: 250 + 1 must not wrap around."""
    path = save_photo(tmp_path / "a.jpg", size=(100, 250))
    scipy.io.savemat(tmp_path / "a.mat", {"box_coord": np.array([[1, 250, 51, 100]], dtype=dtype)})
    picture = decode(source(path, annotation=source(tmp_path / "a.mat").file), 8)
    assert picture.box == pytest.approx((0, 0.5, 1, 0.5))


def test_a_box_is_cut_to_the_image(tmp_path, save_photo):
    picture = decode(source(save_photo(tmp_path / "a.jpg"), box=(-10.0, 15.0, 20.0, 100.0)), 8)
    assert picture.box == pytest.approx((0, 0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 0.0, 5.0), (5.0, 0.0, -3.0, 5.0), (100.0, 0.0, 5.0, 5.0), (float("nan"), 0.0, 5.0, 5.0)]
)
def test_a_box_that_covers_nothing_is_left_out_and_its_image_kept(tmp_path, save_photo, box):
    picture = decode(source(save_photo(tmp_path / "a.jpg"), box=box), 8)
    assert picture.pixels is not None
    assert picture.box is None
    assert "covers nothing" in (picture.box_unreadable or "")


@pytest.mark.parametrize("length", [0, 10, 130, 200])
def test_a_torn_annotation_is_left_out_and_its_image_kept(tmp_path, save_photo, length):
    scipy.io.savemat(tmp_path / "a.mat", {"box_coord": np.array([[1, 10, 1, 10]])})
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:length])
    annotation = source(tmp_path / "a.mat").file
    picture = decode(source(save_photo(tmp_path / "a.jpg"), annotation=annotation), 8)
    assert picture.pixels is not None
    assert picture.box is None
    assert picture.box_unreadable


def test_a_large_image_is_decoded_without_pillows_warning(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (12, 12)).save(path)
    lines = (
        "from PIL import Image",
        "from gcc_search.training.decoding import _upright_rgb",
        "Image.MAX_IMAGE_PIXELS = 100",
        f"print(_upright_rgb(open({str(path)!r}, 'rb').read()).size)",
    )
    # In a Python of its own: pytest has filters for each test.
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(12, 12)\n", "")
