"""Caltech101 in its authors' layout: clutter is no class, boxes are found by either folder name."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from urllib.error import URLError

import pytest
import torchvision

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.caltech101 import list_caltech101


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"name": "caltech101", **changes})


def test_clutter_is_no_class(caltech_root):
    listing = list_caltech101(caltech_root, settings())
    assert listing.classes == ("Faces", "ant", "beaver")
    assert len(listing.sources) == 15


def test_names_are_relative_to_the_folder_of_images(caltech_root):
    listing = list_caltech101(caltech_root, settings())
    assert listing.sources[5].file.name == "ant/image_0001.jpg"
    assert listing.sources[5].label == 1


@pytest.mark.parametrize("folder", ["Faces_2", "Faces"])
def test_annotations_are_found_under_the_official_name_and_the_images_own(caltech_root, folder):
    annotations = caltech_root / "caltech101" / "Annotations"
    (annotations / "Faces_2").rename(annotations / folder)
    listing = list_caltech101(caltech_root, settings())
    found = {source.file.name: source.annotation and source.annotation.name for source in listing.sources}
    assert found["Faces/image_0003.jpg"] == f"{folder}/annotation_0003.mat"
    assert found["ant/image_0003.jpg"] == "ant/annotation_0003.mat"
    assert found["beaver/image_0003.jpg"] is None


def test_a_data_set_without_annotations_has_no_boxes(caltech_root):
    shutil.rmtree(caltech_root / "caltech101" / "Annotations")
    assert not any(source.annotation for source in list_caltech101(caltech_root, settings()).sources)


def test_stray_and_hidden_files_are_no_images(caltech_root):
    folder = caltech_root / "caltech101" / "101_ObjectCategories" / "ant"
    for name in ("Thumbs.db", ".image_0001.jpg", "readme.txt"):
        (folder / name).write_text("stray")
    assert len(list_caltech101(caltech_root, settings()).sources) == 15


def test_a_missing_folder_names_the_layout_and_the_ways_out(tmp_path):
    with pytest.raises(DataError) as caught:
        list_caltech101(tmp_path, settings())
    assert str(caught.value) == (
        f"{tmp_path}/caltech101/101_ObjectCategories: folder must hold <class>/image_0001.jpg, got none; "
        "pass the folder that holds caltech101 as --data-root, or add --download to fetch it"
    )


@pytest.fixture
def served(caltech_root, monkeypatch):
    """torchvision's own unpacking, of an archive that is already here; what it was asked to fetch is listed."""
    asked = []
    archive = caltech_root / "images.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(caltech_root / "caltech101" / "101_ObjectCategories", "101_ObjectCategories")

    def fetch(url: str, download_root: str, filename: str, md5: str) -> None:
        asked.append(md5)
        (Path(download_root) / "caltech-101").mkdir()
        shutil.copy(archive, Path(download_root) / "caltech-101" / archive.name)
        (Path(download_root) / filename).write_text("")

    monkeypatch.setattr(torchvision.datasets.caltech, "download_and_extract_archive", fetch)
    return asked


def test_a_missing_folder_is_downloaded_once_where_asked(served, tmp_path):
    root = tmp_path / "new"
    for _ in range(2):
        assert len(list_caltech101(root, settings(download=True)).sources) == 15
    assert len(served) == 1
    assert {path.name for path in root.iterdir()} == {"caltech101", ".caltech101.lock"}


def test_an_archive_that_writes_elsewhere_is_refused(served, caltech_root, tmp_path):
    with tarfile.open(caltech_root / "images.tar.gz", "w:gz") as tar:
        tar.add(caltech_root / "caltech101" / "101_ObjectCategories" / "ant", "../../elsewhere")
    root = tmp_path / "new"
    with pytest.raises(DataError, match=r"must be downloadable with --download, got: .*elsewhere.* outside"):
        list_caltech101(root, settings(download=True))
    assert {path.name for path in root.iterdir()} == {".caltech101.lock"}
    assert not list(tmp_path.rglob("elsewhere"))


def test_a_failed_download_is_one_line_and_leaves_no_folder_to_mistake(monkeypatch, tmp_path):
    def fail(*_: object, **__: object) -> None:
        raise URLError("no route\nto host")

    monkeypatch.setattr(torchvision.datasets.caltech, "download_and_extract_archive", fail)
    with pytest.raises(DataError) as caught:
        list_caltech101(tmp_path, settings(download=True))
    assert "\n" not in str(caught.value)
    assert "no route to host" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {".caltech101.lock"}


@pytest.fixture
def with_twins(caltech_root):
    """The same with `Faces_easy` of the photographs of `Faces`, and one of its own."""
    images = caltech_root / "caltech101" / "101_ObjectCategories"
    shutil.copytree(images / "Faces", images / "Faces_easy")
    shutil.copy(images / "ant" / "image_0001.jpg", images / "Faces_easy" / "image_0009.jpg")
    return caltech_root


def test_the_second_class_of_faces_shows_the_photographs_of_the_first(with_twins):
    expected = {f"Faces_easy/image_000{number}.jpg": f"Faces/image_000{number}.jpg" for number in range(1, 6)}
    assert list_caltech101(with_twins, settings()).twins == expected


@pytest.mark.parametrize("classes", [("Faces", "ant"), ("Faces_easy", "ant"), ("ant", "beaver")])
def test_without_both_classes_of_faces_no_image_has_a_twin(with_twins, classes):
    assert list_caltech101(with_twins, settings(classes=classes)).twins == {}
