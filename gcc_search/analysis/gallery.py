"""The test images that trials kept with their maps, side by side: the paper's Figure 4 and the report's heatmaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gcc_search.atomic import fetch
from gcc_search.errors import ResultsError
from gcc_search.results.reader import HEATMAPS_FILE, Run, Trial
from gcc_search.results.schema import TrialRecord

# Pages and figures stay a few megabytes in size whatever a run's; those left out are told.
MOST_TRIALS = 400


@dataclass(frozen=True, kw_only=True)
class KeptImage:
    """A test image as the network sees it, and the transform that t is for it. `picture`: a square JPEG."""

    index: int
    name: str
    label: int
    picture: bytes
    crop: tuple[float, float, float, float]
    flipped: bool


@dataclass(frozen=True, kw_only=True)
class KeptMaps:
    """What one network made of an album's images, in their order.

    Args:
        side: rows and columns of a map.
        maps, moved_maps: M(x) and M(t(x)), signed, row by row.
        consistency: SSIM of t(M(x)) and M(t(x)).
    """

    side: int
    maps: tuple[tuple[float, ...], ...]
    moved_maps: tuple[tuple[float, ...], ...]
    consistency: tuple[float, ...]
    predicted: tuple[int, ...]
    confidence: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Album:
    """Images of one data set at one size, and the maps that networks have of them, by trial or baseline id."""

    classes: tuple[str, ...]
    images: tuple[KeptImage, ...]
    maps: dict[str, KeptMaps]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """`album_of`: position in `albums`, by id.

    Args:
        left_out: how many scored trials are beyond those that were read. refused: a line per torn file.
    """

    albums: tuple[Album, ...]
    album_of: dict[str, int]
    left_out: int
    refused: tuple[str, ...]

    def maps_of(self, trial: str) -> KeptMaps | None:
        """None for a network that kept none."""
        place = self.album_of.get(trial)
        return None if place is None else self.albums[place].maps[trial]


def read_gallery(run: Run, wanted: Iterable[str], *, most: int = MOST_TRIALS) -> Gallery:
    """What the first `most` networks `wanted` kept, by id; a torn file is passed over and named."""
    there = {trial.record.id: trial for trial in (*run.baselines.values(), *run.trials)}
    ordered = [there[name] for name in dict.fromkeys(wanted)]
    albums: dict[tuple[object, ...], Album] = {}
    album_of: dict[str, tuple[object, ...]] = {}
    refused: list[str] = []
    fetch([trial.folder / HEATMAPS_FILE for trial in ordered[:most]])
    for trial in ordered[:most]:
        try:
            found = _read(trial, _class_names(run, trial.record))
        except ResultsError as error:
            refused.append(str(error))
            continue
        if found is None:
            continue
        key = _key(trial.record)
        known = albums.setdefault(key, found)
        # Equal keys are equal images; a hand-made run may say otherwise, and its maps belong to no picture here.
        # Their pictures are computed on each trial's device, whose last bits differ.
        if _named(known.images) == _named(found.images):
            albums[key] = replace(known, maps=known.maps | found.maps)
            album_of[trial.record.id] = key
    places = {key: place for place, key in enumerate(albums)}
    return Gallery(
        albums=tuple(albums.values()),
        album_of={trial: places[key] for trial, key in album_of.items()},
        left_out=max(0, len(ordered) - most),
        refused=tuple(refused),
    )


def _named(images: Sequence[KeptImage]) -> list[tuple[object, ...]]:
    """Which images they are, under which transforms."""
    return [(image.index, image.name, image.label, image.crop, image.flipped) for image in images]


def _key(record: TrialRecord) -> tuple[object, ...]:
    settings = record.settings
    size, seed = settings.get("recipe", {}).get("image_size"), settings.get("evaluation", {}).get("seed")
    return record.data_fingerprint, size, seed


def _class_names(run: Run, record: TrialRecord) -> tuple[str, ...]:
    described = (data for data in run.record.data if data["fingerprint"] == record.data_fingerprint)
    return tuple(next(described, {}).get("classes", ()))


def _read(trial: Trial, classes: tuple[str, ...]) -> Album | None:
    rows = trial.heatmaps().to_pylist()
    if not rows:
        return None
    images = tuple(
        KeptImage(
            **{name: row[name] for name in ("index", "name", "label", "picture", "flipped")}, crop=tuple(row["crop"])
        )
        for row in rows
    )
    return Album(classes=classes, images=images, maps={trial.record.id: _maps(rows)})


def _maps(rows: Sequence[Mapping[str, Any]]) -> KeptMaps:
    return KeptMaps(
        side=rows[0]["rows"],
        maps=tuple(tuple(row["map"]) for row in rows),
        moved_maps=tuple(tuple(row["moved_map"]) for row in rows),
        consistency=tuple(row["consistency"] for row in rows),
        predicted=tuple(row["predicted"] for row in rows),
        confidence=tuple(row["confidence"] for row in rows),
    )
