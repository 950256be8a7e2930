"""What is looked at before a network is trained: images, weights, the side of its maps."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from rich.console import Console

from gcc_search.errors import DataError, SpaceError, WeightsError
from gcc_search.preparation import check_network, prepare_images
from gcc_search.saying import say
from gcc_search.settings import DataSettings

ORDER = {"train": 0, "validation": 1, "test": 2}


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=40)


def printed(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


@pytest.fixture
def photos(tmp_path) -> DataSettings:
    """Two classes of four photographs."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number, ord(name[0]), 0)).save(tmp_path / name / f"{number}.png")
    return DataSettings(name="imagefolder", root=tmp_path)


def test_images_that_are_all_right_are_not_talked_about(photos, console):
    data = prepare_images(photos, 32, console)
    assert (data.classes, printed(console)) == (("cat", "dog"), [])


def test_an_image_that_cannot_be_decoded_is_named_and_left_out(photos, console):
    (photos.root / "cat" / "[b].png").write_bytes(b"no image")
    data = prepare_images(photos, 32, console)
    first, second = printed(console)
    assert first == "imagefolder: 1 files need a look (images are left out, annotations done without):"
    assert second.startswith("  cat/[b].png: ")
    assert len(data.train) + len(data.validation) + len(data.test) == 8


def test_of_many_unreadable_images_ten_are_named(photos, console):
    for number in range(13):
        (photos.root / "dog" / f"torn{number}.png").write_bytes(b"no image")
    prepare_images(photos, 32, console)
    assert len(printed(console)) == 12
    assert printed(console)[-1] == "  ... and 3 more"


def test_equal_files_in_two_splits_are_told(photos, console):
    data = prepare_images(photos, 32, console)
    assert data.repeated == ()
    test = photos.root / data.test.names[0]
    for number in (1, 2):
        (photos.root / "dog" / f"copy{number}.png").write_bytes(test.read_bytes())
    wide = Console(file=io.StringIO(), width=400)
    again = prepare_images(photos.model_copy(update={"split_seed": 3}), 32, wide)
    names = {"train": again.train.names, "validation": again.validation.names, "test": again.test.names}
    splits = {name: split for split, found in names.items() for name in found}
    copies = {data.test.names[0], "dog/copy1.png", "dog/copy2.png"}
    assert {name for pair in again.repeated for name in pair} <= copies
    assert all(splits[scored] != "train" and splits[scored] != splits[other] for scored, other in again.repeated)
    assert len(again.repeated) == sum(
        splits[name] != splits[min(copies, key=lambda one: ORDER[splits[one]])] for name in copies
    )
    (line,) = printed(wide)
    scored, other = again.repeated[0]
    count = len(again.repeated)
    assert line.startswith(
        f"imagefolder: {count} files that are scored are in another split as well, such as {scored}, "
    )
    assert other in line


def test_a_missing_folder_is_an_error(tmp_path, console):
    with pytest.raises(DataError):
        prepare_images(DataSettings(name="imagefolder", root=tmp_path / "none"), 32, console)


def test_a_line_is_printed_as_it_is(console):
    say(console, "[bold]a long line with /a/path/ of more than forty characters[/bold]")
    assert printed(console) == ["[bold]a long line with /a/path/ of more than forty characters[/bold]"]


def test_weights_are_looked_at_before_anything_is_trained(tiny_trial, shapes, tmp_path):
    with pytest.raises(WeightsError):
        check_network(tiny_trial.model_copy(update={"weights": str(tmp_path / "none.pth")}), shapes, is_new=True)


def test_a_start_network_that_is_yet_to_be_trained_is_no_error(tiny_trial, shapes):
    check_network(tiny_trial.model_copy(update={"weights": "baseline"}), shapes, is_new=True)


@pytest.mark.parametrize(("network", "smallest"), [("resnet18", 33), ("convnext_tiny", 64)])
def test_maps_of_one_cell_are_refused_with_the_smallest_size_that_has_more(tiny_trial, shapes, network, smallest):
    def sized(size):
        recipe = tiny_trial.recipe.model_copy(update={"image_size": size})
        return tiny_trial.model_copy(update={"network": network, "weights": "none", "recipe": recipe})

    check_network(sized(smallest), shapes, is_new=True)
    # What was begun goes on.
    check_network(sized(smallest - 1), shapes, is_new=False)
    with pytest.raises(SpaceError) as caught:
        check_network(sized(smallest - 1), shapes, is_new=True)
    assert str(caught.value) == (
        f"image_size: must be at least {smallest} for {network}, whose maps have one cell below that, "
        f"got {smallest - 1}; raise it, or use another network"
    )


def test_a_size_that_leaves_a_border_beside_the_patches_is_refused_with_its_neighbours(tiny_trial, shapes):
    recipe = tiny_trial.recipe.model_copy(update={"image_size": 50})
    settings = tiny_trial.model_copy(update={"network": "vit_b_16", "weights": "none", "recipe": recipe})
    with pytest.raises(SpaceError) as caught:
        check_network(settings, shapes, is_new=True)
    assert str(caught.value) == (
        "image_size: must be a multiple of 16 for vit_b_16, which cuts images into patches of that size, "
        "got 50; use 48 or 64"
    )
