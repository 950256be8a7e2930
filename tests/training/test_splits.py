"""A split depends on names and seed alone, and leaves no part of a class empty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcc_search.settings import DataSettings
from gcc_search.training.splits import split_beside, split_class

NAMES = [f"cat/{number}.jpg" for number in range(100)]


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"name": "imagefolder", **changes})


def sizes(splits: dict[str, str] | None) -> dict[str, int]:
    assert splits is not None
    return {split: list(splits.values()).count(split) for split in ("train", "validation", "test")}


def test_a_fifth_tests_and_a_share_of_the_rest_validates():
    splits = split_class(dict.fromkeys(NAMES), settings(test_fraction=0.2, validation_fraction=0.15))
    assert sizes(splits) == {"train": 68, "validation": 12, "test": 20}


def test_the_order_of_files_does_not_matter():
    assert split_class(dict.fromkeys(NAMES), settings()) == split_class(dict.fromkeys(reversed(NAMES)), settings())


def test_another_seed_splits_otherwise():
    one, other = (split_class(dict.fromkeys(NAMES), settings(split_seed=seed)) for seed in (0, 1))
    assert one != other


def test_one_more_image_moves_at_most_two_others():
    before = split_class(dict.fromkeys(NAMES[:-1]), settings())
    after = split_class(dict.fromkeys(NAMES), settings())
    assert before
    assert after
    assert sum(before[name] != after[name] for name in NAMES[:-1]) <= 2


@given(
    count=st.integers(3, 40),
    test_fraction=st.floats(0.001, 0.999),
    validation_fraction=st.floats(0.001, 0.999),
    most=st.none() | st.integers(3, 50),
)
def test_three_images_are_enough_for_any_shares(count, test_fraction, validation_fraction, most):
    chosen = settings(test_fraction=test_fraction, validation_fraction=validation_fraction, max_images_per_class=most)
    found = sizes(split_class(dict.fromkeys(NAMES[:count]), chosen))
    assert min(found.values()) >= 1
    assert sum(found.values()) == min(count, most or count)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_images_are_too_few(count):
    assert split_class(dict.fromkeys(NAMES[:count]), settings()) is None


def test_the_authors_test_images_are_the_test_images():
    official = {name: "test" if number < 30 else "train" for number, name in enumerate(NAMES)}
    splits = split_class(official, settings(test_fraction=0.9, validation_fraction=0.1))
    assert sizes(splits) == {"train": 63, "validation": 7, "test": 30}
    assert splits is not None
    assert {name for name in NAMES if splits[name] == "test"} == set(NAMES[:30])


def test_the_authors_validation_images_are_kept():
    official = {name: ("train", "validation", "test")[number % 3] for number, name in enumerate(NAMES)}
    assert split_class(official, settings()) == official


def test_authors_who_test_on_none_of_a_class_leave_too_few():
    assert split_class(dict.fromkeys(NAMES, "train"), settings()) is None


@pytest.mark.parametrize("most", [3, 4, 10, 99])
def test_a_limit_keeps_the_authors_shares(most):
    official = {name: "test" if number < 50 else "train" for number, name in enumerate(NAMES)}
    found = sizes(split_class(official, settings(max_images_per_class=most)))
    assert sum(found.values()) == most
    assert abs(found["test"] - most / 2) <= 1


def twins_of(numbers) -> dict[str, str]:
    return {f"face/{number}": f"person/{number}" for number in numbers}


@given(
    ours=st.sets(st.integers(0, 40), min_size=3),
    others=st.sets(st.integers(0, 40), min_size=3),
    most=st.none() | st.integers(3, 50),
    seed=st.integers(0, 100),
)
def test_no_photograph_of_two_classes_is_in_two_splits(ours, others, most, seed):
    chosen = settings(max_images_per_class=most, split_seed=seed, test_fraction=0.4, validation_fraction=0.4)
    splits = split_class({f"person/{number}": None for number in others}, chosen)
    assert splits
    twins = twins_of(ours & others)
    drawn = split_beside({f"face/{number}": None for number in ours}, chosen, twins=twins, splits=splits)
    # So few, that all of them may be where their twins are.
    for name, split in (drawn or {}).items():
        assert splits.get(twins.get(name, ""), split) == split


@given(count=st.integers(3, 60), most=st.none() | st.integers(3, 50), seed=st.integers(0, 100))
def test_two_classes_of_the_same_photographs_are_split_alike(count, most, seed):
    chosen, numbers = settings(max_images_per_class=most, split_seed=seed), range(count)
    splits = split_class({f"person/{number}": None for number in numbers}, chosen)
    assert splits
    twins = twins_of(numbers)
    drawn = split_beside({f"face/{number}": None for number in numbers}, chosen, twins=twins, splits=splits)
    assert drawn
    assert {twins[name]: split for name, split in drawn.items()} == splits


def test_a_class_without_twins_is_split_by_itself():
    others = split_class({f"dog/{number}": None for number in range(9)}, settings())
    assert others
    assert split_beside(dict.fromkeys(NAMES), settings(), twins={}, splits=others) == split_class(
        dict.fromkeys(NAMES), settings()
    )


def test_where_all_are_wanted_in_one_split_there_are_too_few():
    official = dict.fromkeys(twins_of(range(3)))
    splits = dict.fromkeys(twins_of(range(3)).values(), "train")
    assert split_beside(official, settings(), twins=twins_of(range(3)), splits=splits) is None


@pytest.mark.parametrize(("count", "test"), [(9, 2), (7, 1), (8, 2)])
def test_shares_are_rounded_to_the_nearest_image(count, test):
    found = sizes(split_class(dict.fromkeys(NAMES[:count]), settings(test_fraction=0.2, validation_fraction=0.2)))
    assert found["test"] == test


def test_splits_are_those_of_yesterday():
    """Who goes on with a run, or trains a network of before again, is to have its images."""
    splits = split_class(dict.fromkeys(NAMES[:20]), settings(test_fraction=0.2, validation_fraction=0.25, split_seed=3))
    assert splits
    held_out = {split: sorted(int(name[4:-4]) for name in splits if splits[name] == split) for split in splits.values()}
    assert (held_out["test"], held_out["validation"]) == ([4, 8, 13, 18], [9, 10, 14, 15])
