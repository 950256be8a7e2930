"""COSE of one network: means over pairs of heatmaps, with standard errors over the images.

R. Daroya, A. Sun, S. Maji, "COSE: A Consistency-Sensitivity Metric for Saliency on Image Classification", ICCV 2023
workshops, arXiv 2309.10989.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import Floats
from gcc_search.results.schema import Direction

Claims = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Similarities of pairs, one row an image, one column a transform; the last column is random weights.

    Args:
        names: of the columns.
        weights: what a pair of each column counts for in means over several columns.
        is_geometric: whether its transform moves the heatmap; False for random weights.
        similarity: -1 to 1, (images, columns).
        is_kept, is_changed: the prediction was right and still is; it was right and is another one now. Neither: it was
            wrong.
    """

    names: tuple[str, ...]
    weights: Floats
    is_geometric: Claims
    similarity: Floats
    is_kept: Claims
    is_changed: Claims


@dataclass(frozen=True, kw_only=True)
class PairMean:
    """A mean over pairs. None: there is no such pair; no error of what a single image has.

    Args:
        level: 0 for a measure, 1 for a part of it, 2 for a part of that.
    """

    name: str
    better: Direction
    level: int
    value: float | None
    standard_error: float | None
    num_pairs: int
    num_images: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pooled:
    """A weighted mean, and how much each image moved it; NaN where there is nothing to pool."""

    value: float
    influence: Floats
    is_counted: Claims


def cose_means(pairs: Pairs) -> tuple[PairMean, ...]:
    """COSE, consistency down to that of each transform, and sensitivity.

    Consistency: mean similarity of pairs whose prediction is right on both sides; up. Sensitivity: that of pairs whose
    prediction was right and is another one now, by a transform or by random weights; down. COSE is
    sqrt(consistency (1 - sensitivity)), 0 for a consistency below 0. Standard errors are of the images: the pairs of
    one image depend on each other.
    """
    columns = np.arange(len(pairs.names))
    is_random = columns == columns[-1]
    kept = pairs.is_kept & ~is_random
    consistency, sensitivity = _pool(pairs, kept), _pool(pairs, pairs.is_changed)

    def transforms(is_geometric: bool) -> Iterator[PairMean]:
        among = ~is_random & (pairs.is_geometric == is_geometric)
        yield _mean(f"{'geo' if is_geometric else 'photo'}metric", "up", 1, _pool(pairs, kept & among))
        for place in columns[among]:
            yield _mean(pairs.names[place], "up", 2, _pool(pairs, kept & (columns == place)))

    return (
        _mean("COSE", "up", 0, _combined(consistency, sensitivity)),
        _mean("consistency", "up", 0, consistency),
        *transforms(is_geometric=True),
        *transforms(is_geometric=False),
        _mean("sensitivity", "down", 0, sensitivity),
        _mean("changed by a transform", "down", 1, _pool(pairs, pairs.is_changed & ~is_random)),
        _mean("random weights", "down", 1, _pool(pairs, pairs.is_changed & is_random)),
    )


def _pool(pairs: Pairs, is_counted: Claims) -> _Pooled:
    weights = np.where(is_counted, pairs.weights, 0.0)
    total = weights.sum()
    if total == 0:
        return _Pooled(value=math.nan, influence=np.zeros(len(weights)), is_counted=is_counted)
    value = float((weights * pairs.similarity).sum() / total)
    influence = (weights * (pairs.similarity - value)).sum(1) / total
    return _Pooled(value=value, influence=influence, is_counted=is_counted)


def _combined(consistency: _Pooled, sensitivity: _Pooled) -> _Pooled:
    """Of both; the influence is linearised, and unknown at 0."""
    kept, changed = max(consistency.value, 0.0), sensitivity.value
    value = math.sqrt(kept * (1 - changed))
    influence = np.full(len(consistency.influence), math.nan)
    if value > 0:
        influence = ((1 - changed) * consistency.influence - kept * sensitivity.influence) / (2 * value)
    return _Pooled(value=value, influence=influence, is_counted=consistency.is_counted | sensitivity.is_counted)


def _mean(name: str, better: Direction, level: int, pooled: _Pooled) -> PairMean:
    num_images = int(pooled.is_counted.any(axis=1).sum())
    error = None
    if num_images > 1 and not math.isnan(pooled.influence.sum()):
        error = math.sqrt(num_images / (num_images - 1) * float((pooled.influence**2).sum()))
    return PairMean(
        name=name,
        better=better,
        level=level,
        value=None if math.isnan(pooled.value) else pooled.value,
        standard_error=error,
        num_pairs=int(pooled.is_counted.sum()),
        num_images=num_images,
    )
