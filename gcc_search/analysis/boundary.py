"""Where training fails: trials over (alpha, beta), the fitted probability of failing, and the line where it is 0.5.

A trial that was stopped early had not failed by then, and counts so: without these, failed ones, which are never
stopped, would be too large a share of the others, and the line would stand at too low an alpha. What it would have come
to is not known: where trials fail late, the line stands at too high an alpha instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import Floats
from gcc_search.analysis.boundary_standing import Coefficients, Standing, find_standing, standardise
from gcc_search.analysis.comparable import settings_but_seed
from gcc_search.analysis.logistic import fit_logistic
from gcc_search.analysis.pairing import Pair
from gcc_search.analysis.parameters import by_sparsity
from gcc_search.results.schema import TrialRecord

FAILED = ("collapsed", "diverged")
# How these ended is the doing of their settings alone.
DECIDED = ("finished", *FAILED)
DRAWN = ("finished", "stopped", *FAILED)
# A listed p has a panel for each of up to so many values; a sampled one is cut into thirds, where each has enough.
MOST_LISTED = 6
THIRDS = 3
FEWEST_IN_A_THIRD = 3
# Places along each axis at which the fitted probability is told.
FIELD = 33
# The colours' least range, points: hundredths of a point are not to look like a fall.
LEAST_TRADEOFF = 0.5

Fit = Literal["fitted", "none failed", "all failed", "no trial"]
# What stands in boundary.json beside the trials.
COUNTED = "failed: collapsed, diverged; not failed: finished, and stopped (early, without having failed by then)"


@dataclass(frozen=True, kw_only=True)
class BoundaryDot:
    """A trial that finished, was stopped early, collapsed or diverged, in decades of alpha and beta.

    `tradeoff_points`: test accuracy lost against its baseline; None unless finished, or where not scored.
    """

    trial: str
    status: str
    log_alpha: float
    log_beta: float
    p: float
    tradeoff_points: float | None


@dataclass(frozen=True, kw_only=True)
class BoundaryPanel:
    """A network in a band of p, both ends included.

    Args:
        sparsity: the form of the sparsity loss that beta weighs, where trials have both; None elsewhere.
        fit: why there is a line, or why not.
        intercept, slope_alpha, slope_beta: of the log-odds of failing, per decade; None unless fitted.
        line: ends of the stretch with a probability of 0.5 within the axes, as (log alpha, log beta); or none.
        field: fitted probability of failing, rows by rising log beta, columns by rising log alpha, at equal distances
            from end to end of the axes; empty unless fitted.
        standing: None unless fitted, and where no boundary stands along alpha.
        standing_missing: why it stands nowhere although fitted; empty elsewhere.
    """

    network: str
    sparsity: str | None
    p_low: float
    p_high: float
    dots: tuple[BoundaryDot, ...]
    fit: Fit
    intercept: float | None
    slope_alpha: float | None
    slope_beta: float | None
    line: tuple[tuple[float, float], ...]
    field: tuple[tuple[float, ...], ...]
    standing: Standing | None
    standing_missing: str


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The figure.

    Args:
        tradeoff_limit: what the colours span, from -limit to limit, in points.
        left_out: trials that ended with alpha or beta 0, which have no decade.
    """

    panels: tuple[BoundaryPanel, ...]
    alpha_range: tuple[float, float]
    beta_range: tuple[float, float]
    tradeoff_limit: float
    left_out: int


def find_boundary(records: Sequence[TrialRecord], pairs: Sequence[Pair]) -> Boundary:
    """A panel per network, form of the sparsity loss and band of p, of trials that finished, were stopped or failed."""
    ended = [record for record in records if record.status in DRAWN]
    lost = {pair.trial.id: pair.tradeoff_points for pair in pairs if pair.trial.status == "finished"}
    placed = {
        (network, sparsity): dots
        for network in sorted({record.network for record in ended})
        for sparsity, ours in by_sparsity(ended).items()
        if (dots := [dot for record in ours if record.network == network and (dot := _dot(record, lost)) is not None])
    }
    dots = [dot for ours in placed.values() for dot in ours]
    alpha_range, beta_range = _range([dot.log_alpha for dot in dots]), _range([dot.log_beta for dot in dots])
    settings = {record.id: settings_but_seed(record) for record in ended}
    panels = tuple(
        _panel(row, band, ours, (alpha_range, beta_range), settings)
        for row, ours in placed.items()
        for band in _bands([dot.p for dot in dots])
    )
    return Boundary(
        panels=panels,
        alpha_range=alpha_range,
        beta_range=beta_range,
        tradeoff_limit=max([LEAST_TRADEOFF, *(abs(dot.tradeoff_points or 0.0) for dot in dots)]),
        left_out=len(ended) - len(dots),
    )


def _dot(record: TrialRecord, lost: Mapping[str, float | None]) -> BoundaryDot | None:
    explanation = record.settings["explanation"]
    if explanation["alpha"] <= 0 or explanation["beta"] <= 0:
        return None
    return BoundaryDot(
        trial=record.id,
        status=record.status,
        log_alpha=float(np.log10(explanation["alpha"])),
        log_beta=float(np.log10(explanation["beta"])),
        p=float(explanation["p"]),
        tradeoff_points=lost.get(record.id),
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return (-1.0, 1.0)
    margin = max(0.06 * (max(values) - min(values)), 0.1)
    return (min(values) - margin, max(values) + margin)


def _bands(values: Sequence[float]) -> list[tuple[float, float]]:
    """Each value of p where values repeat, so were listed; else thirds of about equally many trials, or one band."""
    distinct = sorted(set(values))
    if len(distinct) < len(values) and len(distinct) <= MOST_LISTED:
        return [(value, value) for value in distinct]
    parts = THIRDS if len(distinct) >= THIRDS * FEWEST_IN_A_THIRD else min(1, len(distinct))
    thirds = np.array_split(np.array(distinct), parts) if parts else []
    return [(float(third[0]), float(third[-1])) for third in thirds]


def _panel(
    row: tuple[str, str | None],
    band: tuple[float, float],
    dots: Sequence[BoundaryDot],
    ranges: tuple[tuple[float, float], tuple[float, float]],
    settings: Mapping[str, str],
) -> BoundaryPanel:
    inside = tuple(dot for dot in dots if band[0] <= dot.p <= band[1])
    failed = np.array([dot.status in FAILED for dot in inside], dtype=bool)
    fit: Fit = (
        "no trial" if not inside else "all failed" if failed.all() else "fitted" if failed.any() else "none failed"
    )
    places = np.array([(dot.log_alpha, dot.log_beta) for dot in inside], dtype=np.float64).reshape(-1, 2)
    found = _fit_in_decades(places, failed) if fit == "fitted" else None
    intercept, slope_alpha, slope_beta = found or (None, None, None)
    of_dots = [settings[dot.trial] for dot in inside]
    standing, standing_missing = find_standing(places, failed, found, of_dots) if found else (None, "")
    return BoundaryPanel(
        network=row[0],
        sparsity=row[1],
        p_low=band[0],
        p_high=band[1],
        dots=inside,
        fit=fit,
        intercept=intercept,
        slope_alpha=slope_alpha,
        slope_beta=slope_beta,
        line=_half_line(found, *ranges) if found else (),
        field=_field(found, *ranges) if found else (),
        standing=standing,
        standing_missing=standing_missing,
    )


def _fit_in_decades(places: Floats, failed: NDArray[np.bool_]) -> Coefficients:
    """Intercept and slopes of the log-odds of failing."""
    centre, scale = standardise(places)
    intercept, weights = fit_logistic((places - centre) / scale, failed)
    slopes = weights / scale
    return float(intercept - slopes @ centre), float(slopes[0]), float(slopes[1])


def _field(
    found: Coefficients, alpha_range: tuple[float, float], beta_range: tuple[float, float]
) -> tuple[tuple[float, ...], ...]:
    intercept, slope_alpha, slope_beta = found
    across, up = np.linspace(*alpha_range, FIELD), np.linspace(*beta_range, FIELD)[:, None]
    # tanh overflows nowhere.
    probability = 0.5 + 0.5 * np.tanh((intercept + slope_alpha * across + slope_beta * up) / 2)
    return tuple(tuple(row) for row in probability.round(6).tolist())


def _half_line(
    found: Coefficients, alpha_range: tuple[float, float], beta_range: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    """Where log-odds are 0 on the frame of the axes: two places, or none where the line passes by."""
    intercept, slope_alpha, slope_beta = found
    crossings = set()
    if slope_beta:
        crossings |= {(alpha, -(intercept + slope_alpha * alpha) / slope_beta) for alpha in alpha_range}
    if slope_alpha:
        crossings |= {(-(intercept + slope_beta * beta) / slope_alpha, beta) for beta in beta_range}
    inside = sorted(place for place in crossings if _is_within(place, alpha_range, beta_range))
    return (inside[0], inside[-1]) if len(inside) > 1 else ()


def _is_within(place: tuple[float, float], alpha_range: tuple[float, float], beta_range: tuple[float, float]) -> bool:
    tiny = 1e-9
    (a_low, a_high), (b_low, b_high) = alpha_range, beta_range
    return a_low - tiny <= place[0] <= a_high + tiny and b_low - tiny <= place[1] <= b_high + tiny
