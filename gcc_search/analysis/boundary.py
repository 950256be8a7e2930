"""Where training fails: trials over (alpha, beta), and the line at which half of them are expected to collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gcc_search.analysis.bootstrap import Floats
from gcc_search.analysis.logistic import fit_logistic
from gcc_search.results.schema import TrialRecord

FAILED = ("collapsed", "diverged")
DRAWN = ("finished", *FAILED)
# A listed p has a panel for each of up to so many values; a sampled one is cut into thirds, where each has enough.
MOST_LISTED = 6
THIRDS = 3
FEWEST_IN_A_THIRD = 3

Fit = Literal["fitted", "all trained", "all failed", "no trial"]


@dataclass(frozen=True, kw_only=True)
class BoundaryDot:
    """A trial that finished, collapsed or diverged, in decades of alpha and beta."""

    trial: str
    status: str
    log_alpha: float
    log_beta: float
    p: float


@dataclass(frozen=True, kw_only=True)
class BoundaryPanel:
    """A network in a band of p, both ends included.

    Args:
        fit: why there is a line, or why not.
        intercept, slope_alpha, slope_beta: of the log-odds of failing, per decade; None unless fitted.
        line: ends of the stretch with a probability of 0.5 within the axes, as (log alpha, log beta); or none.
    """

    network: str
    p_low: float
    p_high: float
    dots: tuple[BoundaryDot, ...]
    fit: Fit
    intercept: float | None
    slope_alpha: float | None
    slope_beta: float | None
    line: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """The figure. `left_out`: trials that ended with alpha or beta 0, which have no decade."""

    panels: tuple[BoundaryPanel, ...]
    alpha_range: tuple[float, float]
    beta_range: tuple[float, float]
    left_out: int


def find_boundary(records: Sequence[TrialRecord]) -> Boundary:
    """A panel per network and band of p, over the trials that trained to their end or failed to."""
    ended = [record for record in records if record.status in DRAWN]
    placed = [(record.network, dot) for record in ended if (dot := _dot(record)) is not None]
    dots = [dot for _, dot in placed]
    alpha_range, beta_range = _range([dot.log_alpha for dot in dots]), _range([dot.log_beta for dot in dots])
    panels = tuple(
        _panel(network, band, [dot for name, dot in placed if name == network], (alpha_range, beta_range))
        for network in sorted({name for name, _ in placed})
        for band in _bands([dot.p for dot in dots])
    )
    return Boundary(panels=panels, alpha_range=alpha_range, beta_range=beta_range, left_out=len(ended) - len(placed))


def _dot(record: TrialRecord) -> BoundaryDot | None:
    explanation = record.settings["explanation"]
    if explanation["alpha"] <= 0 or explanation["beta"] <= 0:
        return None
    return BoundaryDot(
        trial=record.id,
        status=record.status,
        log_alpha=float(np.log10(explanation["alpha"])),
        log_beta=float(np.log10(explanation["beta"])),
        p=float(explanation["p"]),
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
    network: str,
    band: tuple[float, float],
    dots: Sequence[BoundaryDot],
    ranges: tuple[tuple[float, float], tuple[float, float]],
) -> BoundaryPanel:
    inside = tuple(dot for dot in dots if band[0] <= dot.p <= band[1])
    failed = np.array([dot.status in FAILED for dot in inside], dtype=bool)
    fit: Fit = (
        "no trial" if not inside else "all failed" if failed.all() else "fitted" if failed.any() else "all trained"
    )
    places = np.array([(dot.log_alpha, dot.log_beta) for dot in inside], dtype=np.float64).reshape(-1, 2)
    found = _fit_in_decades(places, failed) if fit == "fitted" else None
    intercept, slope_alpha, slope_beta = found or (None, None, None)
    return BoundaryPanel(
        network=network,
        p_low=band[0],
        p_high=band[1],
        dots=inside,
        fit=fit,
        intercept=intercept,
        slope_alpha=slope_alpha,
        slope_beta=slope_beta,
        line=_half_line(found, *ranges) if found else (),
    )


def _fit_in_decades(
    places: Floats, failed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> tuple[float, float, float]:
    """Intercept and slopes of the log-odds. Fitted on standardised places, so that the penalty treats both alike."""
    centre, scale = places.mean(axis=0), places.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    intercept, weights = fit_logistic((places - centre) / scale, failed)
    slopes = weights / scale
    return float(intercept - slopes @ centre), float(slopes[0]), float(slopes[1])


def _half_line(
    found: tuple[float, float, float], alpha_range: tuple[float, float], beta_range: tuple[float, float]
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
