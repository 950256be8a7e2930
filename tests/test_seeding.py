"""Seeds: the numbers themselves are a promise, for a checkpoint of last year is resumed with them."""

from hypothesis import given
from hypothesis import strategies as st

from gcc_search.seeding import derive_seed

PURPOSES = st.lists(st.integers() | st.text(), max_size=4).map(tuple)


def test_seeds_are_what_they_were_in_the_first_version():
    assert derive_seed(0) == 5_254_295_370_254_170_289
    assert derive_seed(7, 3, "augment") == 2_919_347_715_802_688_037
    assert derive_seed(7, "weights") == 6_051_554_714_634_571_255


@given(st.integers(), PURPOSES)
def test_a_seed_fits_a_generator_of_torch_and_of_numpy(seed, purpose):
    assert 0 <= derive_seed(seed, *purpose) < 2**63


@given(st.integers(), PURPOSES, st.integers(), PURPOSES)
def test_only_equal_purposes_of_equal_seeds_agree(seed, purpose, other_seed, other_purpose):
    equal = (seed, purpose) == (other_seed, other_purpose)
    assert (derive_seed(seed, *purpose) == derive_seed(other_seed, *other_purpose)) == equal


def test_a_number_and_its_name_give_different_seeds():
    assert derive_seed(0, 1) != derive_seed(0, "1")


def test_one_purpose_with_a_comma_is_not_two_purposes():
    assert derive_seed(0, "a", "b") != derive_seed(0, "a', 'b")


def test_the_order_of_asking_changes_nothing():
    first = [derive_seed(1, epoch, "order") for epoch in (1, 2, 3)]
    assert first == [derive_seed(1, epoch, "order") for epoch in (3, 2, 1)][::-1]
