"""Logistic regression with an L2 penalty, by Newton's method: enough for a boundary in a plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import Floats

# Enough for outcomes that a line separates. Of thirty trials a quarter of which fail, 1 (scikit-learn's default) moves
# the place where half fail by a fifth of a decade towards the side with fewer trials.
PENALTY = 0.1
_MOST_STEPS = 100
_TOLERANCE = 1e-10
# Of the last step, in log-odds; Newton steps leave about its square.
_REFIT_TOLERANCE = 1e-4
_LONGEST_REFIT_STEP = 2.0


def fit_logistic(features: Floats, outcomes: NDArray[np.bool_], *, penalty: float = PENALTY) -> tuple[float, Floats]:
    """(intercept, weights) that minimise the cross-entropy summed over rows + penalty / 2 |weights|^2.

    The intercept is not penalised. Finite for outcomes that a line separates, thanks to the penalty.

    Raises:
        ValueError: all outcomes are equal; no intercept is then best.
    """
    if outcomes.all() or not outcomes.any():
        raise ValueError("outcomes must be of both kinds, got one")
    design = np.column_stack([np.ones(len(features)), features])
    penalties = np.r_[0.0, np.full(features.shape[1], penalty)]
    weights = np.zeros(design.shape[1])
    for _ in range(_MOST_STEPS):
        step = _newton_step(design, outcomes, weights, penalties)
        weights = weights + step
        if np.abs(step).max() < _TOLERANCE:
            break
    return float(weights[0]), weights[1:]


def refit_logistic(
    features: Floats, outcomes: NDArray[np.bool_], counts: Floats, *, start: Floats, penalty: float = PENALTY
) -> Floats:
    """(resamples, 1 + k): intercept and weights with row i of `features` counted `counts[r, i]` times.

    All resamples at once, by Newton steps of limited length from `start`, the fit of the rows counted once.
    """
    design = np.column_stack([np.ones(len(features)), features])
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    penalties = np.r_[0.0, np.full(features.shape[1], penalty)]
    weights = np.tile(start, (len(counts), 1))
    for _ in range(_MOST_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(weights @ design.T, -500, 500)))
        gradient = (counts * (probability - outcomes)) @ design + penalties * weights
        spread = counts * np.maximum(probability * (1 - probability), 1e-12)
        curvature = (spread @ products).reshape(-1, design.shape[1], design.shape[1]) + np.diag(penalties)
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        # Far from the minimum a full step overshoots.
        weights -= step / np.maximum(np.abs(step).max(axis=1, keepdims=True) / _LONGEST_REFIT_STEP, 1.0)
        if np.abs(step).max(initial=0.0) < _REFIT_TOLERANCE:
            break
    return weights


def _newton_step(design: Floats, outcomes: NDArray[np.bool_], weights: Floats, penalties: Floats) -> Floats:
    """A full step, halved until the loss falls."""
    probability = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
    gradient = design.T @ (probability - outcomes) + penalties * weights
    spread = np.maximum(probability * (1 - probability), 1e-12)
    step = np.asarray(-np.linalg.solve((design.T * spread) @ design + np.diag(penalties), gradient), dtype=np.float64)
    before = _loss(design, outcomes, weights, penalties)
    while _loss(design, outcomes, weights + step, penalties) > before and np.abs(step).max() > _TOLERANCE:
        step = step / 2
    return step


def _loss(design: Floats, outcomes: NDArray[np.bool_], weights: Floats, penalties: Floats) -> float:
    logits = design @ weights
    return float((np.logaddexp(0, logits) - outcomes * logits).sum() + (penalties * weights**2).sum() / 2)
