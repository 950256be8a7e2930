"""A path in the home of nobody is one line, wherever it is said."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from gcc_search.errors import DataError, WeightsError
from gcc_search.homes import expanded
from gcc_search.preparation import prepare_images, weights_file
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.settings import DataSettings
from gcc_search.training.image_cache import cache_folder
from tests.search.conftest import make_space

NOBODYS = "must begin with a home that there is, got ~nobody9/x; write the whole path"


def test_a_home_is_a_folder():
    assert expanded("~/x", where="--data-root") == Path.home() / "x"
    assert expanded("a~b", where="--data-root") == Path("a~b")


def test_the_home_of_nobody_and_a_null_character_are_one_line():
    with pytest.raises(DataError, match=f"^--data-root: {NOBODYS}$"):
        expanded("~nobody9/x", where="--data-root")
    with pytest.raises(DataError, match=r"^data\.root: must be a path, got a null character in it: "):
        expanded("a\0b", where="data.root")


@pytest.mark.parametrize(("root", "told"), [("~nobody9/x", NOBODYS), ("a\0b", "must be a path")])
def test_a_folder_of_images_is_looked_at_by_all_that_read_them(root, told, tmp_path):
    asked, console = {"name": "imagefolder", "root": root}, Console(file=io.StringIO())
    with pytest.raises(DataError, match=f"^data.root: {told}"):
        prepare_images(DataSettings(**asked), 32, console)
    with pytest.raises(DataError, match=f"^data.root: {told}"):
        prepare_search(make_space(data=asked), SearchOptions(out=tmp_path), console)


def test_weights_and_the_image_cache_too(monkeypatch):
    with pytest.raises(WeightsError, match=f"^weights: {NOBODYS}$"):
        weights_file("resnet18", "~nobody9/x")
    monkeypatch.setenv("GCC_SEARCH_CACHE", "~nobody9/x")
    with pytest.raises(DataError, match=f"^GCC_SEARCH_CACHE: {NOBODYS}$"):
        cache_folder()
