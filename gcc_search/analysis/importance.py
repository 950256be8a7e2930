"""How much of a metric a parameter explains on its own, network by network, and whether chance would do as well.

Method: over the finished trials of a network, the metric (validation split) is replaced by its ranks. A numeric
parameter's share is the square of Spearman's rank correlation: what a rising or falling relation explains, and no
other. A parameter of choices has the share of the ranks' variance between its choices (eta squared, as in the test of
Kruskal and Wallis). The p-value is the share of 2,000 seeded permutations that explain at least as much. Parameters are
taken one at a time: shares do not sum to 1. A sampler that learns draws parameters that depend on each other; the
permutations do not know of it.

The largest of several shares is large by being chosen: among four parameters that do nothing, one has a p-value below
0.05 in a sixth of cases. Its p-value is that of the family: how often any parameter explains as much after the same
permutation (the largest statistic: P. Westfall and S. Young, Resampling-Based Multiple Testing, 1993). Metrics and
networks are not counted in.
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
from gcc_search.objectives import Metric
from gcc_search.results.schema import TrialRecord

PERMUTATIONS = 2000
# With fewer trials even a perfect order has a p-value that says little.
FEWEST = 6


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What one parameter explains of a metric.

    Args:
        share: of the variance of the metric's ranks, 0 to 1.
        correlation: Spearman's, None for choices.
        p_value: that chance gives this parameter as large a share.
        family_p_value: that chance gives any of the network's parameters as large a share of this metric.
    """

    network: str
    metric: str
    parameter: str
    num_trials: int
    share: float
    correlation: float | None
    p_value: float
    family_p_value: float


def find_importances(records: Sequence[TrialRecord], question: Question) -> tuple[Importance, ...]:
    """Per network, metric of the run and parameter, in this order; networks with fewer than six trials have none."""
    finished = [record for record in records if record.status == "finished"]
    parameters = find_parameters(finished)
    return tuple(
        importance
        for network in sorted({record.network for record in finished})
        for metric in question.metrics
        for importance in _importances(network, metric, parameters, [r for r in finished if r.network == network])
    )


def _importances(
    network: str, metric: Metric, parameters: Sequence[Parameter], records: Sequence[TrialRecord]
) -> list[Importance]:
    orders: dict[tuple[str, ...], int] = {}
    tested = [(parameter, _test(metric.column, parameter, records, orders)) for parameter in parameters]
    found = [(parameter, test) for parameter, test in tested if test is not None]
    largest = np.max([test.by_chance for _, test in found], axis=0) if found else np.empty(0)
    return [
        Importance(
            network=network,
            metric=metric.name,
            parameter=parameter.label,
            num_trials=test.num_trials,
            share=test.share,
            correlation=None if parameter.choices else test.correlation,
            p_value=_p_value(test.share, test.by_chance),
            family_p_value=_p_value(test.share, largest),
        )
        for parameter, test in found
    ]


@dataclass(frozen=True, kw_only=True)
class _Test:
    """A parameter's share, and those after each permutation, (PERMUTATIONS,)."""

    num_trials: int
    share: float
    correlation: float
    by_chance: Floats


def _test(
    column: str, parameter: Parameter, records: Sequence[TrialRecord], orders: dict[tuple[str, ...], int]
) -> _Test | None:
    """`orders`: which permutations the trials of an earlier parameter got; added to."""
    known = {
        record.id: (parameter.place(record.sampled[parameter.name]), value)
        for record in records
        if parameter.is_sampled(record) and (value := record.validated(column)) is not None
    }
    if len(known) < FEWEST or any(len({pair[side] for pair in known.values()}) < 2 for side in (0, 1)):
        return None
    places, values = np.array(list(known.values()), dtype=np.float64).T
    explained, ranked = _explained_by(places, is_choice=bool(parameter.choices)), _standardised(values)
    # Parameters of the same trials share their permutations; those of others have their own, which makes the largest
    # share by chance too large, if anything.
    order = orders.setdefault(tuple(known), len(orders))
    shuffled = _shuffled(ranked.tobytes(), order)
    return _Test(
        num_trials=len(known),
        share=float(((explained @ ranked) ** 2).sum()),
        correlation=float(explained[0] @ ranked),
        by_chance=((shuffled @ explained.T) ** 2).sum(axis=1),
    )


def _p_value(share: float, by_chance: Floats) -> float:
    # Rounding must not make a permutation that is the order itself fall short of it.
    return (int((by_chance >= share - 1e-9).sum()) + 1) / (PERMUTATIONS + 1)


# The parameters of a network are known of the same trials, as a rule, and so are its metrics: each is drawn once.
@lru_cache(maxsize=1)
def _shuffled(ranked: bytes, order: int) -> Floats:
    """The ranks in each of `PERMUTATIONS` orders, a row each: 160 MB for ten thousand trials."""
    ranks = np.frombuffer(ranked)
    return ranks[_permutations(len(ranks), order)]


@lru_cache(maxsize=1)
def _permutations(num_trials: int, order: int) -> NDArray[np.int32]:
    """Orders of so many trials, the same ones each time."""
    orders = np.tile(np.arange(num_trials, dtype=np.int32), (PERMUTATIONS, 1))
    return np.random.default_rng(SEED + order).permuted(orders, axis=1, out=orders)


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
