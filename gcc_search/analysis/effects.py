"""What each sampled parameter does to a network: the paper's Table 2 as data, for points, grids and random searches.

One at a time: trials that agree in every setting but one stand in a row, as in the paper. Where no two trials do (a
random search), each parameter is cut into bins of equal width, and the trials of a bin differ in all else as well:
a marginal effect. All values are of the test split.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gcc_search.analysis.boundary import DECIDED
from gcc_search.analysis.comparable import comparable_settings
from gcc_search.analysis.pairing import Pair, test_accuracy
from gcc_search.analysis.parameters import Parameter, find_parameters
from gcc_search.results.schema import TrialRecord

BINS = 5
# With fewer finished trials of a network a mean over bins tells noise.
FEWEST_FOR_BINS = 2 * BINS
EFFECTS_UNITS = {
    "tradeoff_points": "accuracy tradeoff, points\n(positive = accuracy lost)",
    "corrected_consistency": "corrected consistency C*\n(up to 1, higher is better)",
    "gini": "sparsity: Gini index\n(0 to 1, higher is sparser)",
}

EFFECT_COLUMNS = (
    *("parameter", "kind", "network", "fixed", "value", "low", "high", "trial", "status", "accuracy_points"),
    *EFFECTS_UNITS,
    *("measure", "num_trials", "mean", "quartile_1", "median", "quartile_3"),
)


@dataclass(frozen=True, kw_only=True)
class EffectPoint:
    """A trial that sampled the parameter. `values`: by measure of `EFFECTS_UNITS`, None where not scored."""

    trial: str
    network: str
    status: str
    place: float
    accuracy_points: float | None
    values: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Finished trials of a network with the parameter between `low` and `high`, and a measure's spread over them."""

    network: str
    measure: str
    low: float
    high: float
    middle: float
    num_trials: int
    mean: float
    quartile_1: float
    median: float
    quartile_3: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """Trials that differ in the parameter alone, by rising value. `fixed`: what else was sampled, equal in all."""

    network: str
    fixed: dict[str, Any]
    points: tuple[EffectPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A column of the figure: `series` where there are any, else `bins`; never both. `axis_range`: holds all points."""

    parameter: Parameter
    axis_range: tuple[float, float]
    points: tuple[EffectPoint, ...]
    series: tuple[Series, ...]
    bins: tuple[Bin, ...]


def find_effects(records: Sequence[TrialRecord], pairs: Sequence[Pair]) -> tuple[Effect, ...]:
    """An effect per parameter that takes more than one value over trials that finished, collapsed or diverged."""
    ended = [record for record in records if record.status in DECIDED]
    lost = {pair.trial.id: pair.tradeoff_points for pair in pairs}
    return tuple(_effect(parameter, ended, lost) for parameter in find_parameters(ended))


def _effect(parameter: Parameter, records: Sequence[TrialRecord], lost: dict[str, float | None]) -> Effect:
    asked = [record for record in records if parameter.is_sampled(record)]
    points = {record.id: _point(parameter, record, lost.get(record.id)) for record in asked}
    series = _series(parameter, asked, points)
    return Effect(
        parameter=parameter,
        axis_range=parameter.axis_range([point.place for point in points.values()]),
        points=tuple(points.values()),
        series=series,
        bins=() if series else _bins(parameter, list(points.values())),
    )


def _point(parameter: Parameter, record: TrialRecord, tradeoff_points: float | None) -> EffectPoint:
    test = record.test or {}
    return EffectPoint(
        trial=record.id,
        network=record.network,
        status=record.status,
        place=parameter.place(record.sampled[parameter.name]),
        accuracy_points=test_accuracy(record),
        values={
            "tradeoff_points": tradeoff_points,
            "corrected_consistency": test.get("corrected_consistency"),
            "gini": test.get("gini"),
        },
    )


def _series(parameter: Parameter, records: Sequence[TrialRecord], points: dict[str, EffectPoint]) -> tuple[Series, ...]:
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(_all_but(parameter.name, record), []).append(record)
    found = (_one_series(parameter, group, points) for group in groups.values())
    return tuple(series for series in found if len({point.place for point in series.points}) > 1)


def _one_series(parameter: Parameter, group: list[TrialRecord], points: dict[str, EffectPoint]) -> Series:
    return Series(
        network=group[0].network,
        fixed={name: value for name, value in group[0].sampled.items() if name != parameter.name},
        points=tuple(sorted((points[record.id] for record in group), key=lambda point: (point.place, point.trial))),
    )


def _all_but(parameter: str, record: TrialRecord) -> str:
    """Every setting but one, as text; those of an explanation and of a recipe are sampled by their own names."""
    settings = comparable_settings(record)
    if parameter == "image_size" and record.settings["data"]["name"] == "shapes":
        # Drawn anew at each size: so is their fingerprint, and their settings alone decide them.
        drawn = record.settings["data"].items()
        settings["data"] = {name: value for name, value in drawn if name not in ("root", "download")}
    for group in ("explanation", "recipe"):
        if parameter in settings.get(group, {}):
            settings[group] = {name: value for name, value in settings[group].items() if name != parameter}
    # Of neither: the seed.
    settings.pop(parameter, None)
    return json.dumps(settings, sort_keys=True)


def _bins(parameter: Parameter, points: Sequence[EffectPoint]) -> tuple[Bin, ...]:
    finished = [point for point in points if point.status == "finished"]
    counts = {network: sum(point.network == network for point in finished) for network in _networks(finished)}
    edges = _edges(parameter, [point.place for point in finished])
    return tuple(
        found
        for network, count in counts.items()
        if count >= FEWEST_FOR_BINS
        for measure in EFFECTS_UNITS
        for edge in edges
        if (found := _bin(parameter, [p for p in finished if p.network == network], measure, edge, edges)) is not None
    )


def _networks(points: Sequence[EffectPoint]) -> list[str]:
    return sorted({point.network for point in points})


def _edges(parameter: Parameter, places: Sequence[float]) -> list[tuple[float, float]]:
    """Bins that touch; the last one holds its upper edge. A choice is a bin of its own."""
    if parameter.choices:
        return [(place - 0.5, place + 0.5) for place in range(len(parameter.choices))]
    if not places or min(places) == max(places):
        return []
    spaced = np.geomspace if parameter.is_log else np.linspace
    edges = spaced(min(places), max(places), BINS + 1).tolist()
    # What rounding takes off the last edge would leave out the largest value.
    edges[-1] = max(places)
    return list(itertools.pairwise(edges))


def _bin(
    parameter: Parameter,
    points: Sequence[EffectPoint],
    measure: str,
    edge: tuple[float, float],
    edges: Sequence[tuple[float, float]],
) -> Bin | None:
    low, high = edge
    # Of all networks' bins: where this network's values end, another bin may begin.
    is_last = edge == edges[-1]
    inside = [point for point in points if low <= point.place < high or (is_last and point.place == high)]
    values = [value for point in inside if (value := point.values[measure]) is not None]
    if not values:
        return None
    quartile_1, median, quartile_3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Bin(
        network=points[0].network,
        measure=measure,
        low=low,
        high=high,
        middle=float(np.sqrt(low * high)) if parameter.is_log else (low + high) / 2,
        num_trials=len(values),
        mean=float(np.mean(values)),
        quartile_1=quartile_1,
        median=median,
        quartile_3=quartile_3,
    )


def effect_rows(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """effects.csv: a row per trial of a series, or per bin and measure."""
    rows = [
        _series_row(effect, series, point) for effect in effects for series in effect.series for point in series.points
    ]
    return rows + [_bin_row(effect, found) for effect in effects for found in effect.bins]


def _series_row(effect: Effect, series: Series, point: EffectPoint) -> dict[str, Any]:
    choices = effect.parameter.choices
    return dict.fromkeys(EFFECT_COLUMNS) | {
        "parameter": effect.parameter.label,
        "kind": "one at a time",
        "network": series.network,
        "fixed": series.fixed,
        "value": choices[int(point.place)] if choices else point.place,
        "trial": point.trial,
        "status": point.status,
        "accuracy_points": point.accuracy_points,
        **point.values,
    }


def _bin_row(effect: Effect, found: Bin) -> dict[str, Any]:
    choices = effect.parameter.choices
    place = {"value": choices[int(found.middle)]} if choices else {"low": found.low, "high": found.high}
    spread = ("network", "measure", "num_trials", "mean", "quartile_1", "median", "quartile_3")
    told = {name: getattr(found, name) for name in spread}
    return dict.fromkeys(EFFECT_COLUMNS) | {"parameter": effect.parameter.label, "kind": "marginal"} | place | told
