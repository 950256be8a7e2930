"""Which image trains, which validates, which tests: by name and seed alone, never by the order of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from gcc_search.seeding import derive_seed
from gcc_search.settings import DataSettings

Split = Literal["train", "validation", "test"]

MIN_IMAGES_PER_CLASS = 3
"""One each to train, to validate and to test."""


def split_class(official: Mapping[str, Split | None], settings: DataSettings) -> dict[str, Split] | None:
    """Name -> split of the images of one class that are kept, at least one in each split; None where they are too few.

    Shares are rounded. An image added or removed moves at most a few others.

    Args:
        official: Name -> the authors' split, for each of the class's readable images; None, for all, where they give
            none. Without a validation part, one is cut from theirs to train.
    """
    pools: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
    for name, split in official.items():
        pools[split or "train"].append(name)
    pools = _keep(pools, settings)
    if not any(official.values()):
        # Two stay behind, to validate and to train.
        _cut(pools, "test", settings.test_fraction, stay=2, seed=settings.split_seed)
    if not pools["validation"]:
        _cut(pools, "validation", settings.validation_fraction, stay=1, seed=settings.split_seed)
    if not all(pools.values()):
        return None
    return {name: split for split, pool in pools.items() for name in pool}


def split_beside(
    official: Mapping[str, Split | None],
    settings: DataSettings,
    *,
    twins: Mapping[str, str],
    splits: Mapping[str, Split],
) -> dict[str, Split] | None:
    """`split_class` of a class that shows photographs of another class again: none is in two splits.

    Where both classes have the same photographs, both keep the same of them. Where not, those that only one of the two
    has may leave a split an image or so larger or smaller than asked for.

    Args:
        twins: Name -> name of the same photograph in the other class.
        splits: Name -> split, of the other class's images that are kept.
    """
    # Drawn by the other's names, which decide what is drawn.
    names = {twins.get(name, name): name for name in official}
    drawn = split_class({known: official[name] for known, name in names.items()}, settings)
    placed = {names[known]: splits.get(known, split) for known, split in (drawn or {}).items()}
    return placed if {*placed.values()} == {*get_args(Split)} else None


def _cut(pools: dict[Split, list[str]], split: Split, share: float, *, stay: int, seed: int) -> None:
    count = min(max(1, round(share * len(pools["train"]))), max(0, len(pools["train"]) - stay))
    pools[split] = _draw(pools["train"], count, seed, split)
    pools["train"] = sorted(set(pools["train"]) - set(pools[split]))


def _keep(pools: dict[Split, list[str]], settings: DataSettings) -> dict[Split, list[str]]:
    """At most `max_images_per_class` over the pools, each by its share and none emptied."""
    total = sum(map(len, pools.values()))
    if settings.max_images_per_class is None or total <= settings.max_images_per_class:
        return pools
    counts: dict[Split, int] = {
        split: min(len(pool), max(1, settings.max_images_per_class * len(pool) // total))
        for split, pool in pools.items()
        if split != "train"
    }
    counts["train"] = max(0, settings.max_images_per_class - sum(counts.values()))
    return {split: _draw(pool, counts[split], settings.split_seed, "keep") for split, pool in pools.items()}


def _draw(names: Sequence[str], count: int, seed: int, purpose: str) -> list[str]:
    """`count` of the names, those whose own seed is lowest: a draw that no other name's presence reorders."""
    return sorted(sorted(names), key=lambda name: derive_seed(seed, purpose, name))[:count]
