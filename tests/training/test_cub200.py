"""CUB-200-2011 in its authors' layout: the lists rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.cub200 import list_cub200
from gcc_search.training.listings import Listing, Unreadable


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"name": "cub200", **changes})


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / "CUB_200_2011" / f"{name}.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def by_name(listing: Listing) -> dict[str, str | None]:
    return {source.file.name: source.official for source in listing.sources}


def test_the_lists_give_classes_split_and_boxes(cub_root):
    listing = list_cub200(cub_root, settings())
    assert listing.classes == ("001.Bird_1", "002.Bird_2")
    assert list(by_name(listing).values()) == 2 * (4 * ["train"] + 2 * ["test"])
    # Top, left, height, width; the list has left, top, width, height.
    assert {source.box for source in listing.sources} == {(5.0, 3.0, 10.0, 6.0)}


def test_a_stray_image_is_ignored(cub_root):
    assert not any("stray" in name for name in by_name(list_cub200(cub_root, settings())))


def test_a_listed_image_that_is_missing_is_told(cub_root):
    name = "001.Bird_1/Bird_1_0003.jpg"
    (cub_root / "CUB_200_2011" / "images" / name).unlink()
    listing = list_cub200(cub_root, settings())
    assert listing.unreadable == (Unreadable(name=name, reason="missing"),)
    assert len(listing.sources) == 11


def test_a_torn_box_is_told_and_its_image_kept(cub_root):
    edit(cub_root, "bounding_boxes", "\n3 3.0 5.0 6.0 10.0", "\n3 3.0 5.0")
    listing = list_cub200(cub_root, settings())
    assert len(listing.sources) == 12
    (told,) = listing.unreadable
    assert told.name == "001.Bird_1/Bird_1_0003.jpg"
    assert told.reason == "annotation: bounding_boxes.txt has no box in '3.0 5.0'; used without a box"


def test_the_list_of_boxes_may_be_absent(cub_root):
    (cub_root / "CUB_200_2011" / "bounding_boxes.txt").unlink()
    assert {source.box for source in list_cub200(cub_root, settings()).sources} == {None}


@pytest.mark.parametrize("name", ["classes", "image_class_labels", "train_test_split"])
def test_any_other_list_must_be_there(cub_root, name):
    (cub_root / "CUB_200_2011" / f"{name}.txt").unlink()
    with pytest.raises(DataError, match=rf"{name}\.txt: list must exist, got none; unpack"):
        list_cub200(cub_root, settings())


def test_a_line_without_a_value_is_told_by_number(cub_root):
    edit(cub_root, "image_class_labels", "\n4 1\n", "\n4\n")
    with pytest.raises(DataError, match=r"image_class_labels\.txt: line 4 must be an id and a value, got '4'"):
        list_cub200(cub_root, settings())


def test_an_image_that_a_list_forgets_is_told(cub_root):
    edit(cub_root, "train_test_split", "\n4 1\n", "\n")
    with pytest.raises(DataError, match=r"train_test_split\.txt: list must have a line for id 4, got none"):
        list_cub200(cub_root, settings())


@pytest.mark.parametrize("download", [False, True])
def test_a_missing_folder_says_where_the_archive_comes_from(tmp_path, download):
    with pytest.raises(DataError) as caught:
        list_cub200(tmp_path, settings(download=download))
    assert "\n" not in str(caught.value)
    assert "CUB_200_2011.tgz from its authors" in str(caught.value)
    assert ("--download cannot fetch it" in str(caught.value)) == download


def test_a_byte_order_mark_is_no_part_of_an_id(cub_root):
    for name in ("images", "classes", "image_class_labels", "train_test_split"):
        path = cub_root / "CUB_200_2011" / f"{name}.txt"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(list_cub200(cub_root, settings()).sources) == 12


def test_no_image_is_lost_to_another_of_its_id(cub_root):
    edit(cub_root, "images", "\n4 ", "\n3 ")
    with pytest.raises(DataError, match=r"images\.txt: line 4 must have an id of its own, got 3 again; unpack"):
        list_cub200(cub_root, settings())
