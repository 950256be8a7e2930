"""One folder per class, under the root or under its train, val and test."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.imagefolder import list_imagefolder
from gcc_search.training.listings import Unreadable


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"name": "imagefolder", **changes})


def splits(root: Path) -> dict[str, set[str | None]]:
    """Sub-folder -> the splits its images are put into."""
    found: dict[str, set[str | None]] = {}
    for source in list_imagefolder(root, settings()).sources:
        found.setdefault(source.file.name.split("/")[0], set()).add(source.official)
    return found


def make(root: Path, save_photo, *parts: str) -> Path:
    for part in parts:
        for name in ("cat", "dog"):
            for number in range(3):
                save_photo(root / part / name / f"{number}.png", seed=number)
    return root


def test_folders_are_classes(image_folder):
    listing = list_imagefolder(image_folder, settings())
    assert listing.classes == ("cat", "dog")
    assert len(listing.sources) == 20
    assert {source.official for source in listing.sources} == {None}


def test_suffixes_may_be_of_any_case_and_format(image_folder, save_photo):
    for suffix in ("JPG", "jpeg", "png", "webp", "avif", "bmp", "tif", "ppm"):
        save_photo(image_folder / "cat" / f"more.{suffix}")
    (image_folder / "cat" / "notes.txt").write_text("no image")
    assert len(list_imagefolder(image_folder, settings()).sources) == 28


def test_images_that_are_not_read_are_told(image_folder, save_photo):
    for place in ("cat/more/1.png", "cat/more/yet/2.jpg", "dog/one/1.png", "dog/.thumbs/1.png", "dog/__MACOSX/1.png"):
        save_photo(image_folder / place)
    for name in (
        "cat/phone.HEIC",
        "cat/2.heic",
        "dog/notes.txt",
        "dog/empty/._1.png",
        "dog/Thumbs.db",
        "dog/empty/readme.md",
    ):
        (image_folder / name).parent.mkdir(exist_ok=True)
        (image_folder / name).write_text("no image")
    listing = list_imagefolder(image_folder, settings())
    assert len(listing.sources) == 20
    assert listing.unreadable == (
        Unreadable(
            name="cat/more",
            reason="a folder within a class, whose 2 images are not read; move up what belongs to the class",
        ),
        Unreadable(name="cat/*.heic", reason="2 files are not read; convert to PNG or JPEG"),
        Unreadable(
            name="dog/one", reason="a folder within a class, whose image is not read; move up what belongs to the class"
        ),
    )


def test_a_folder_within_a_class_may_have_any_name(image_folder, save_photo):
    strange = image_folder / "cat" / os.fsdecode(b"caf\xe9")
    save_photo(strange / "1.png")
    (told,) = list_imagefolder(image_folder, settings()).unreadable
    assert told.name == r"'cat/caf\udce9'"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train", "test"), {"train": {"train"}, "test": {"test"}}),
        (("train", "val"), {"train": {"train"}, "val": {"test"}}),
        (("train", "val", "test"), {"train": {"train"}, "val": {"validation"}, "test": {"test"}}),
    ],
)
def test_train_val_and_test_folders_are_the_split(tmp_path, save_photo, parts, expected):
    assert splits(make(tmp_path, save_photo, *parts)) == expected


def test_vehicles_named_train_are_a_class(tmp_path, save_photo):
    for name in ("bus", "test", "train"):
        save_photo(tmp_path / name / "1.jpg")
    assert list_imagefolder(tmp_path, settings()).classes == ("bus", "test", "train")


def test_a_class_missing_from_one_part_is_told(tmp_path, save_photo):
    make(tmp_path, save_photo, "train", "test")
    save_photo(tmp_path / "test" / "emu" / "1.jpg")
    message = "class 'emu' must have a folder in each of train, test, got none in train; add it, or remove the other"
    with pytest.raises(DataError, match=message):
        list_imagefolder(tmp_path, settings())


def test_a_link_to_nothing_is_told(image_folder):
    (image_folder / "cat" / "link.jpg").symlink_to("nowhere.jpg")
    listing = list_imagefolder(image_folder, settings())
    assert listing.unreadable == (Unreadable(name="cat/link.jpg", reason="missing"),)


def test_a_name_in_no_known_encoding_is_told(image_folder):
    try:
        Path(f"{image_folder}/cat/\udcff.jpg").write_bytes(b"")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    (told,) = list_imagefolder(image_folder, settings()).unreadable
    assert told == Unreadable(name=r"'cat/\udcff.jpg'", reason="the file's name is not UTF-8")


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_classes_names_the_layout(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    message = f"{tmp_path}/{folder}: folder must hold <class>/*.jpg, got none; pass the folder that holds"
    with pytest.raises(DataError, match=re.escape(message)):
        list_imagefolder(tmp_path / folder, settings())


def test_an_unknown_class_suggests_the_nearest(image_folder):
    message = r"^data\.classes: names must be classes of imagefolder, got 'cats'; did you mean 'cat'\?$"
    with pytest.raises(DataError, match=message):
        list_imagefolder(image_folder, settings(classes=("cats", "dog")))


def test_an_unknown_class_like_none_lists_what_there_is(image_folder):
    with pytest.raises(DataError, match=r"got 'zebra'; its 2 classes are cat, dog$"):
        list_imagefolder(image_folder, settings(classes=("zebra", "dog")))


def test_one_class_alone_is_refused(image_folder):
    with pytest.raises(DataError, match=r"classes of imagefolder must be at least 2, got 1 \(dog\)"):
        list_imagefolder(image_folder, settings(classes=("dog",)))


def test_kept_classes_stay_in_the_data_sets_order(image_folder, save_photo):
    save_photo(image_folder / "emu" / "1.jpg")
    assert list_imagefolder(image_folder, settings(classes=("emu", "cat"))).classes == ("cat", "emu")


def test_an_accent_is_the_same_however_it_is_written(image_folder, save_photo):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    save_photo(image_folder / decomposed / "1.jpg")
    assert list_imagefolder(image_folder, settings(classes=("cat", composed))).classes == (decomposed, "cat")


@pytest.mark.parametrize("parts", [("train",), ("train", "valid"), ("Training", "Testing")])
def test_folders_that_look_like_a_split_under_other_names_are_told_as_that(tmp_path, save_photo, parts):
    make(tmp_path, save_photo, *parts)
    told = f"folders of a split must be train and val or test, or all three, got {', '.join(sorted(parts))};"
    with pytest.raises(DataError, match=told):
        list_imagefolder(tmp_path, settings())
