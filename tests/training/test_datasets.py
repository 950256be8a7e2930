"""From settings to three splits that share no image."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from torch.testing import assert_close

from gcc_search.errors import DataError
from gcc_search.settings import DataSettings
from gcc_search.training.datasets import DataSet, eval_crop_of, load_dataset
from gcc_search.training.image_set import ImageSet
from gcc_search.training.listings import Unreadable
from gcc_search.training.splits import split_class

FACES = ("Faces", "Faces_easy")


@pytest.fixture
def load(tmp_path):
    """`load_dataset` with a cache of the test's own."""

    def call(name: str, *, image_size: int = 14, cache: Path = tmp_path / "cache", **settings: object) -> DataSet:
        chosen = DataSettings.model_validate({"name": name, **settings})
        return load_dataset(chosen, image_size=image_size, cache=cache)

    return call


def splits(data: DataSet) -> tuple[ImageSet, ImageSet, ImageSet]:
    return data.train, data.validation, data.test


def names(data: DataSet) -> tuple[tuple[str, ...], ...]:
    return tuple(split.names for split in splits(data))


def by_name(images: ImageSet) -> dict[str, torch.Tensor]:
    return dict(zip(images.names, images.pixels(everything(images)), strict=True))


def everything(images: ImageSet) -> torch.Tensor:
    return torch.arange(len(images))


def image_set(**changes: object) -> ImageSet:
    """Three images of the six in a cache, with a box, without, and with another."""
    generator = torch.Generator().manual_seed(0)
    fields = {
        "images": torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=generator),
        "rows": torch.tensor([4, 1, 2]),
        "labels": torch.tensor([0, 1, 0]),
        "heights": torch.tensor([20, 21, 22]),
        "widths": torch.tensor([30, 31, 32]),
        "names": ("a", "b", "c"),
        "boxes": torch.tensor([[0.25, 0.5, 0.5, 0.25], 4 * [float("nan")], [0.0, 0.0, 1.0, 1.0]]),
    }
    return ImageSet(**{**fields, **changes})


# An image set.


def test_pixels_are_copies_of_the_rows_asked_for():
    images = image_set()
    pixels = images.pixels(torch.tensor([2, 0]))
    assert_close(pixels, images.images[[2, 4]])
    pixels.zero_()
    assert images.images[2].any()


def test_a_subset_keeps_its_order_and_shares_the_pixels():
    images = image_set().subset(torch.tensor([2, 0]))
    assert images.names == ("c", "a")
    assert images.rows.tolist() == [2, 4]
    assert images.labels.tolist() == [0, 0]
    assert images.heights.tolist() == [22, 20]
    assert_close(images.pixels(torch.tensor([1])), image_set().pixels(torch.tensor([0])))


def test_a_region_is_the_boxs_share_of_each_cell():
    region = image_set().regions(torch.tensor([0]), 4)[0]
    expected = torch.zeros(4, 4)
    expected[1:3, 2] = 1
    assert_close(region, expected)


@pytest.mark.parametrize("size", [3, 7, 8, 224])
def test_a_region_has_the_boxs_area_at_every_size(size):
    assert_close(image_set().regions(torch.tensor([0]), size).mean(), torch.tensor(0.125))


def test_an_image_without_a_box_has_an_empty_region():
    assert image_set().regions(torch.tensor([1]), 7).sum() == 0


def test_a_mask_goes_before_a_box():
    masks = torch.zeros(6, 8, 8, dtype=torch.uint8)
    masks[4, :4, :4] = 255
    region = image_set(masks=masks).regions(torch.tensor([0]), 2)[0]
    assert_close(region, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_a_set_without_any_box_has_no_regions():
    assert image_set().has_regions
    assert not image_set().subset(torch.tensor([1])).has_regions


# Loading.


@pytest.mark.parametrize("name", ["caltech101", "cub200", "imagefolder"])
def test_splits_share_no_image_and_hold_every_class(load, caltech_root, cub_root, image_folder, name):
    root = {"caltech101": caltech_root, "cub200": cub_root, "imagefolder": image_folder}[name]
    data = load(name, root=root)
    together = [image for split in names(data) for image in split]
    assert len(together) == len(set(together)) == {"caltech101": 15, "cub200": 12, "imagefolder": 20}[name]
    for split in splits(data):
        assert set(split.labels.tolist()) == set(range(len(data.classes)))
        assert split.pixels(everything(split)).shape == (len(split), 3, 16, 16)


def test_photographs_are_stored_an_eighth_wider_and_cropped_back(load, image_folder):
    data = load("imagefolder", root=image_folder, image_size=224)
    assert data.train.images.shape[-1] == 256
    assert eval_crop_of("imagefolder") == 0.875


def test_a_stored_image_is_the_whole_photograph_squashed(load, image_folder):
    data = load("imagefolder", root=image_folder)
    with Image.open(image_folder / data.train.names[0]) as image:
        expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert_array_equal(data.train.pixels(torch.tensor([0]))[0].numpy(), expected)
    assert (data.train.heights[0], data.train.widths[0]) == (20, 30)


def test_a_grey_photograph_has_three_equal_channels(load, caltech_root):
    data = load("caltech101", root=caltech_root)
    for split in splits(data):
        for position, name in enumerate(split.names):
            red, green, blue = split.pixels(torch.tensor([position]))[0]
            assert (torch.equal(red, green) and torch.equal(green, blue)) == (name == "beaver/image_0002.jpg")


def test_boxes_are_fractions_of_the_image(load, caltech_root):
    data = load("caltech101", root=caltech_root)
    for split in splits(data):
        for name, box in zip(split.names, split.boxes, strict=True):
            if name.startswith("beaver"):
                assert box.isnan().all()
            else:
                # Rows 6 to 15 of 20 and columns 4 to 9 of 30, counted from 1.
                assert_close(box, torch.tensor([0.25, 0.1, 0.5, 0.2]))


def test_cub_keeps_the_authors_test_images(load, cub_root):
    data = load("cub200", root=cub_root, test_fraction=0.9)
    numbers = [int(name[-8:-4]) for name in data.test.names]
    assert numbers == [5, 6, 11, 12]
    assert_close(data.test.boxes[0], torch.tensor([0.25, 0.1, 0.5, 0.2]))


def test_what_cannot_be_decoded_is_told_and_left_out(load, caltech_root, tmp_path):
    folder = caltech_root / "caltech101" / "101_ObjectCategories" / "ant"
    (folder / "image_0001.jpg").write_bytes(b"")
    (folder / "image_0002.jpg").write_text("<html>")
    (caltech_root / "caltech101" / "Annotations" / "ant" / "annotation_0003.mat").write_bytes(b"torn")
    for _ in range(2):
        data = load("caltech101", root=caltech_root)
        first, second, third = data.unreadable
        assert (first.name, second.name, third.name) == tuple(f"ant/image_000{number}.jpg" for number in (1, 2, 3))
        assert third.reason.startswith("annotation: ")
        together = [name for split in names(data) for name in split]
        assert len(together) == 13
        assert "ant/image_0003.jpg" in together


def test_a_listed_but_missing_image_is_told(load, cub_root):
    name = "002.Bird_2/Bird_2_0008.jpg"
    (cub_root / "CUB_200_2011" / "images" / name).unlink()
    assert load("cub200", root=cub_root).unreadable == (Unreadable(name=name, reason="missing"),)


def test_an_existing_cache_is_opened_without_decoding(image_folder, tmp_path):
    told: list[int] = []
    settings = DataSettings(name="imagefolder", root=image_folder)
    for _ in range(2):
        load_dataset(settings, image_size=14, cache=tmp_path / "cache", progress=lambda done, total: told.append(done))
    assert told == list(range(1, 21))


def test_a_changed_image_is_decoded_anew(load, image_folder, save_photo):
    before = load("imagefolder", root=image_folder)
    path = save_photo(image_folder / before.train.names[0], seed=4711)
    os.utime(path, ns=(0, 0))
    after = load("imagefolder", root=image_folder)
    first = torch.tensor([0])
    assert not torch.equal(before.train.pixels(first), after.train.pixels(first))
    assert before.fingerprint != after.fingerprint


def test_only_the_kept_classes_are_decoded(load, caltech_root):
    data = load("caltech101", root=caltech_root, classes=("beaver", "ant"))
    assert data.classes == ("ant", "beaver")
    assert len(data.train.images) == 10


def test_shapes_of_other_classes_are_other_images(load):
    one, other = (
        load("shapes", num_images=40, classes=names) for names in (("checked", "halved"), ("spotted", "striped"))
    )
    assert not {*one.train.names} & {*other.train.names}
    assert one.fingerprint != other.fingerprint


def test_at_most_so_many_images_of_a_class_are_kept(load, image_folder):
    data = load("imagefolder", root=image_folder, max_images_per_class=4)
    labels = torch.cat([split.labels for split in splits(data)])
    assert labels.bincount().tolist() == [4, 4]


# The same photograph in two classes, one split.


@pytest.fixture
def faces_twice(caltech_root, save_photo):
    """`Faces` of thirty photographs, and `Faces_easy` of the same."""
    images = caltech_root / "caltech101" / "101_ObjectCategories"
    for number in range(6, 31):
        save_photo(images / "Faces" / f"image_{number:04d}.jpg", seed=number)
    shutil.copytree(images / "Faces", images / "Faces_easy")
    return caltech_root


def split_of(data: DataSet) -> dict[str, str]:
    return {name: split for split in ("train", "validation", "test") for name in getattr(data, split).names}


@pytest.mark.parametrize("chosen", [{}, {"max_images_per_class": 9}, {"split_seed": 3}, {"classes": FACES}])
def test_twins_are_in_one_split_and_all_others_where_they_were(load, faces_twice, chosen):
    both = split_of(load("caltech101", root=faces_twice, **chosen))
    first, second = ({n.partition("/")[2]: s for n, s in both.items() if n.startswith(f"{c}/")} for c in FACES)
    assert first == second
    assert len(first) == chosen.get("max_images_per_class", 30)
    shutil.rmtree(faces_twice / "caltech101" / "101_ObjectCategories" / "Faces_easy")
    alone = split_of(load("caltech101", root=faces_twice, **(chosen | {"classes": ("Faces", "ant", "beaver")})))
    assert {name: split for name, split in both.items() if not name.startswith("Faces_easy/")}.items() <= alone.items()


def test_without_the_first_the_second_is_split_by_its_own_names(load, faces_twice):
    chosen = DataSettings(name="caltech101")
    alone = split_of(load("caltech101", root=faces_twice, classes=("Faces_easy", "ant")))
    expected = split_class({f"Faces_easy/image_{number:04d}.jpg": None for number in range(1, 31)}, chosen)
    assert expected
    assert expected.items() <= alone.items()


def test_twins_share_a_split_where_some_photographs_of_one_cannot_be_read(load, faces_twice):
    images = faces_twice / "caltech101" / "101_ObjectCategories"
    for number in (1, 2, 3, 4, 5):
        (images / "Faces" / f"image_{number:04d}.jpg").write_bytes(b"torn")
    found = split_of(load("caltech101", root=faces_twice, classes=FACES))
    twins = [(found[name], found[f"Faces_easy/{name[6:]}"]) for name in found if name.startswith("Faces/")]
    assert len(twins) == 25
    assert all(one == other for one, other in twins)


def test_a_class_whose_few_photographs_all_train_in_another_is_told(load, faces_twice):
    train = load("caltech101", root=faces_twice, classes=("Faces", "ant")).train.names
    images = faces_twice / "caltech101" / "101_ObjectCategories"
    for path in (images / "Faces_easy").iterdir():
        if f"Faces/{path.name}" not in train[:3]:
            path.unlink()
    message = (
        r"class 'Faces_easy' must .*, got 3 of 3 listed \(3 of them photographs of another class, split as there\)"
    )
    assert_one_line(load, message, "caltech101", root=faces_twice)


# The same names, the same split.


def test_the_same_names_give_the_same_split_whatever_their_order_on_disk(load, image_folder, tmp_path):
    copy = tmp_path / "copy"
    for path in sorted(image_folder.rglob("*.jpg"), reverse=True):
        target = copy / path.relative_to(image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    one, other = (load("imagefolder", root=root) for root in (image_folder, copy))
    assert names(one) == names(other)
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("change", [{"split_seed": 1}, {"test_fraction": 0.4}, {"classes": ("cat", "dog")}])
def test_the_fingerprint_tells_other_splits_and_only_those(load, image_folder, save_photo, change):
    same = "classes" in change
    one, other = load("imagefolder", root=image_folder), load("imagefolder", root=image_folder, **change)
    assert (one.fingerprint == other.fingerprint) == same


def test_two_folders_of_equal_names_sizes_and_times_do_not_share_a_cache(load, tmp_path, save_photo):
    for folder, seed in (("one", 0), ("other", 50)):
        for number in range(6):
            path = save_photo(tmp_path / folder / "ab"[number % 2] / f"{number}.bmp", seed=seed + number)
            os.utime(path, ns=(0, 0))
    one, other = (load("imagefolder", root=tmp_path / folder) for folder in ("one", "other"))
    assert not torch.equal(one.train.images, other.train.images)


# Shapes.


def test_shapes_need_no_folder_and_have_a_mask_each(load):
    data = load("shapes", num_images=80, image_size=32)
    assert eval_crop_of("shapes") == 1
    assert len(data.classes) == 8
    assert sum(map(len, splits(data))) == 80
    assert data.train.images.shape[1:] == (3, 32, 32)
    regions = data.train.regions(everything(data.train), 32)
    assert regions.amax((1, 2)).min() == 1
    assert 0.05 < regions.mean() < 0.3


def test_a_shape_depends_on_its_seed_and_number_and_not_on_how_many_there_are(load):
    few, many = (load("shapes", num_images=count, image_size=32) for count in (40, 80))
    pixels = {name: image for split in splits(many) for name, image in by_name(split).items()}
    for split in splits(few):
        for name, image in by_name(split).items():
            assert torch.equal(image, pixels[name])


def test_shapes_of_some_classes_are_as_many_as_asked_for(load):
    data = load("shapes", num_images=40, image_size=32, classes=("striped", "checked"))
    assert data.classes == ("checked", "striped")
    labels = torch.cat([split.labels for split in splits(data)])
    assert labels.bincount().tolist() == [20, 20]


@pytest.mark.parametrize("change", [{"data_seed": 1}, {"num_images": 48}, {"image_size": 33}])
def test_other_shapes_have_another_fingerprint(load, change):
    base = {"num_images": 40, "image_size": 32}
    assert load("shapes", **base).fingerprint != load("shapes", **{**base, **change}).fingerprint


# What a user can get wrong is one line that says what to do.


def assert_one_line(load, match: str, name: str, **settings: object) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load(name, **settings)
    assert "\n" not in str(caught.value)


def test_a_data_set_without_a_root_is_told_how_to_give_one(load):
    message = r"^data\.root: folder must be given for caltech101, got none; pass --data-root"
    assert_one_line(load, message, "caltech101")


def test_a_class_of_two_images_is_refused_before_decoding(load, image_folder, save_photo, tmp_path):
    for number in range(2):
        save_photo(image_folder / "emu" / f"{number}.jpg")
    message = "class 'emu' must hold at least 3 readable images, to train, validate and test on, got 2 of 2 listed"
    assert_one_line(load, message, "imagefolder", root=image_folder)
    assert not (tmp_path / "cache").exists()


def test_an_empty_class_is_refused(load, image_folder):
    (image_folder / "emu").mkdir()
    assert_one_line(load, "class 'emu' must hold .* got 0 of 0 listed; add", "imagefolder", root=image_folder)


def test_a_class_of_damaged_images_is_refused(load, image_folder):
    for path in (image_folder / "cat").iterdir():
        path.write_bytes(b"torn")
    assert_one_line(load, "class 'cat' must hold .* got 0 of 10 listed", "imagefolder", root=image_folder)


def test_a_class_without_test_images_is_refused(load, cub_root):
    path = cub_root / "CUB_200_2011" / "train_test_split.txt"
    path.write_text(path.read_text().replace(" 0", " 1"))
    message = r"class '001\.Bird_1' must hold .* got 6 of 6 listed"
    assert_one_line(load, message, "cub200", root=cub_root)


def test_too_low_a_limit_is_named_as_the_cause(load, image_folder):
    message = r"^data\.max_images_per_class: must be at least 3, got 2; "
    assert_one_line(load, message, "imagefolder", root=image_folder, max_images_per_class=2)


def test_too_few_shapes_say_which_setting_to_raise(load):
    assert_one_line(load, r"^shapes: class 'checked' .* raise data\.num_images$", "shapes", num_images=16)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_folder_is_told(load, image_folder):
    (image_folder / "cat").chmod(0)
    assert_one_line(load, "folder must be readable, got: Permission denied", "imagefolder", root=image_folder)


def test_a_root_that_is_a_file_is_told(load, image_folder):
    root = image_folder / "cat" / "0.jpg"
    assert_one_line(load, re.escape(f"{root}: folder must hold"), "imagefolder", root=root)


# Real photographs.


def test_real_caltech101_images_load_whole(tmp_path):
    """Ten classes of the real data: every image decodes, grey ones among them, and some have boxes."""
    root = os.environ.get("GCC_SEARCH_DATA")
    if not root:
        pytest.skip("set GCC_SEARCH_DATA to a folder that holds caltech101")
    folder = Path(root, "caltech101", "101_ObjectCategories")
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.name != "BACKGROUND_Google"))[:10]
    settings = DataSettings(name="caltech101", root=Path(root), classes=classes)
    data = load_dataset(settings, image_size=64, cache=tmp_path)
    assert data.classes == classes
    assert data.unreadable == ()
    assert sum(map(len, splits(data))) == sum(len(list((folder / name).iterdir())) for name in classes)
    assert abs(len(data.test) / sum(map(len, splits(data))) - 0.2) < 0.01
    if (folder.parent / "Annotations").is_dir():
        assert data.test.has_regions
