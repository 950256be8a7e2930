"""How much of a metric a parameter explains on its own, network by network, and whether chance would do as well.

Method: over the finished trials of a network, the metric (validation split) is replaced by its ranks. A numeric
parameter's share is the square of Spearman's rank correlation: what a rising or falling relation explains, and no
other. A parameter of choices has the share of the ranks' variance between its choices (eta squared, as in the test of
Kruskal and Wallis). The p-value is the share of 2,000 seeded permutations that explain at least as much. Parameters are
taken one at a time: shares do not sum to 1. A sampler that learns draws parameters that depend on each other; the
permutations do not know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import SEED, Floats
from gcc_search.analysis.feasibility import Question
from gcc_search.analysis.parameters import Parameter, find_parameters
from gcc_search.results.schema import TrialRecord

PERMUTATIONS = 2000
# With fewer trials even a perfect order has a p-value that says little.
FEWEST = 6


@dataclass(frozen=True, kw_only=True)
class Importance:
    """`share`: of the variance of the metric's ranks, 0 to 1. `correlation`: Spearman's, None for choices."""

    network: str
    metric: str
    parameter: str
    num_trials: int
    share: float
    correlation: float | None
    p_value: float


def find_importances(records: Sequence[TrialRecord], question: Question) -> tuple[Importance, ...]:
    """Per network, metric of the run and parameter, in this order; networks with fewer than six trials have none."""
    finished = [record for record in records if record.status == "finished"]
    found = (
        _importance(network, metric.name, metric.column, parameter, [r for r in finished if r.network == network])
        for network in sorted({record.network for record in finished})
        for metric in question.metrics
        for parameter in find_parameters(finished)
    )
    return tuple(importance for importance in found if importance is not None)


def _importance(
    network: str, metric: str, column: str, parameter: Parameter, records: Sequence[TrialRecord]
) -> Importance | None:
    known = [
        (parameter.place(record.sampled[parameter.name]), value)
        for record in records
        if parameter.is_sampled(record) and (value := record.validated(column)) is not None
    ]
    if len(known) < FEWEST or any(len({pair[side] for pair in known}) < 2 for side in (0, 1)):
        return None
    places, values = np.array(known, dtype=np.float64).T
    explained = _explained_by(places, is_choice=bool(parameter.choices))
    ranked = _standardised(values)
    shuffled = _shuffled(ranked.tobytes())
    share = float(((explained @ ranked) ** 2).sum())
    # Rounding must not make a permutation that is the order itself fall short of it.
    as_good = int((((shuffled @ explained.T) ** 2).sum(axis=1) >= share - 1e-9).sum())
    return Importance(
        network=network,
        metric=metric,
        parameter=parameter.label,
        num_trials=len(known),
        share=share,
        correlation=None if parameter.choices else float(explained[0] @ ranked),
        p_value=(as_good + 1) / (PERMUTATIONS + 1),
    )


# The parameters of a network are known of the same trials, as a rule, and so are its metrics: each is drawn once.
@lru_cache(maxsize=1)
def _shuffled(ranked: bytes) -> Floats:
    """The ranks in each of `PERMUTATIONS` orders, a row each: 160 MB for ten thousand trials."""
    ranks = np.frombuffer(ranked)
    return ranks[_permutations(len(ranks))]


@lru_cache(maxsize=1)
def _permutations(num_trials: int) -> NDArray[np.int32]:
    """Orders of so many trials, the same ones each time."""
    orders = np.tile(np.arange(num_trials, dtype=np.int32), (PERMUTATIONS, 1))
    return np.random.default_rng(SEED).permuted(orders, axis=1, out=orders)


def _explained_by(places: Floats, *, is_choice: bool) -> Floats:
    """Orthonormal rows; the squared lengths of ranks along them sum to the share."""
    if not is_choice:
        return _standardised(places)[None]
    chosen = np.stack([places == place for place in np.unique(places)]).astype(np.float64)
    return np.asarray(chosen / np.sqrt(chosen.sum(axis=1, keepdims=True)), dtype=np.float64)


def _standardised(values: Floats) -> Floats:
    """Ranks (ties share their mean), centred, of length 1."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[places]
    centred = ranks - ranks.mean()
    return np.asarray(centred / np.sqrt((centred**2).sum()), dtype=np.float64)
