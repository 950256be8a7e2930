"""Figure 4 of the paper as data: which networks' heatmaps stand side by side, parameter by parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gcc_search.analysis.effects import Effect, EffectPoint
from gcc_search.analysis.gallery import Gallery
from gcc_search.analysis.pairing import SCORED, Pair

MOST_CELLS = 5


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """A network of the row. `value`: of the row's parameter, as text; measures are of the test split."""

    trial: str
    value: str
    status: str
    accuracy_points: float | None
    corrected_consistency: float | None
    gini: float | None


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """Networks by rising value of one parameter.

    Args:
        baseline: id of the baseline that the row's first network is compared to.
        baseline_is_shared: whether all networks of the row are; those of other seeds or recipes have others.
        fixed: what else was sampled, equal in all cells; None where the networks differ in other settings too.
    """

    parameter: str
    network: str
    baseline: str
    baseline_is_shared: bool
    fixed: dict[str, Any] | None
    cells: tuple[GridCell, ...]


def find_heatmap_grid(effects: Sequence[Effect], pairs: Sequence[Pair], kept: Gallery) -> tuple[GridRow, ...]:
    """A row per network and parameter, of trials that kept their maps: up to `MOST_CELLS`, evenly over its values.

    Trials that differ in the parameter alone where there are any; else from all that finished or collapsed.
    """
    baselines = {pair.trial.id: pair.baseline.id for pair in pairs if kept.maps_of(pair.trial.id)}
    networks = sorted({pair.trial.network for pair in pairs})
    rows = (_row(effect, network, baselines) for network in networks for effect in effects)
    return tuple(row for row in rows if row is not None)


def _row(effect: Effect, network: str, baselines: dict[str, str]) -> GridRow | None:
    lines = [(line.fixed, _usable(line.points, baselines)) for line in effect.series if line.network == network]
    candidates = [(fixed, points) for fixed, points in lines if _is_varied(points)]
    if candidates:
        fixed, points = max(candidates, key=lambda item: len({point.place for point in item[1]}))
    else:
        fixed = None
        points = _usable([point for point in effect.points if point.network == network], baselines)
    if not _is_varied(points):
        return None
    chosen = _evenly(points)
    return GridRow(
        parameter=effect.parameter.label,
        network=network,
        baseline=baselines[chosen[0].trial],
        baseline_is_shared=len({baselines[point.trial] for point in chosen}) == 1,
        fixed=fixed,
        cells=tuple(_cell(effect, point) for point in chosen),
    )


def _usable(points: Sequence[EffectPoint], baselines: dict[str, str]) -> list[EffectPoint]:
    usable = [point for point in points if point.status in SCORED and point.trial in baselines]
    return sorted(usable, key=lambda point: (point.place, point.trial))


def _is_varied(points: Sequence[EffectPoint]) -> bool:
    return len({point.place for point in points}) > 1


def _evenly(points: Sequence[EffectPoint]) -> list[EffectPoint]:
    """First, last, and what stands evenly between them; one point of each value."""
    distinct = list({point.place: point for point in reversed(points)}.values())[::-1]
    places = np.linspace(0, len(distinct) - 1, min(MOST_CELLS, len(distinct))).round().astype(int)
    return [distinct[place] for place in places]


def _cell(effect: Effect, point: EffectPoint) -> GridCell:
    choices = effect.parameter.choices
    return GridCell(
        trial=point.trial,
        value=choices[int(point.place)] if choices else f"{point.place:.3g}",
        status=point.status,
        accuracy_points=point.accuracy_points,
        corrected_consistency=point.values["corrected_consistency"],
        gini=point.values["gini"],
    )
