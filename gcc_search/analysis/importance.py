"""How much of a metric a parameter explains on its own, network by network, and whether chance would do as well.

Method: over the finished trials of a network, the metric (validation split) is replaced by its ranks. A numeric
parameter's share is the square of Spearman's rank correlation: what a rising or falling relation explains, and no
other. A parameter of choices has the share of the ranks' variance between its choices (eta squared, as in the test of
Kruskal and Wallis). The p-value is the share of 2,000 seeded permutations that explain at least as much. Parameters are
taken one at a time: shares do not sum to 1. A sampler that learns draws parameters that depend on each other; the
permutations do not know of it.

Trials that differ in the seed alone are not independent: they count once, with the mean of their metric, for every
parameter but `seed`. For `seed` it is trials that are compared, and permuted within their settings; those of settings
that no other trial has, among each other. Choices of which none was made twice explain all of any metric: they have no
share.

The smallest of several p-values is small by being chosen: among four parameters that do nothing, one is below 0.05 in a
sixth of cases. Its p-value is that of the family: how often any parameter has as small a one after the same permutation
(min-p: P. Westfall and S. Young, Resampling-Based Multiple Testing, 1993). The shares themselves are no measure here:
chance gives k choices among n trials a share of (k - 1) / (n - 1), a number 1 / (n - 1). Where one of m parameters
matters, its p-value of the family is at least about m / 2,001. Metrics and networks are not counted in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import SEED, Floats
from gcc_search.analysis.comparable import settings_but_seed
from gcc_search.analysis.feasibility import Question
from gcc_search.analysis.parameters import Parameter, find_parameters
from gcc_search.objectives import Metric
from gcc_search.results.schema import TrialRecord

Counts = NDArray[np.intp]

PERMUTATIONS = 2000
# With fewer settings even a perfect order has a p-value that says little.
FEWEST = 6


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What one parameter explains of a metric.

    Args:
        num_trials, num_settings: that were compared; fewer settings than trials where some differ in the seed alone.
        share: of the variance of the metric's ranks, 0 to 1.
        correlation: Spearman's, None for choices.
        p_value: that chance gives this parameter as large a share.
        family_p_value: that chance gives any of the network's parameters as small a p-value for this metric.
    """

    network: str
    metric: str
    parameter: str
    num_trials: int
    num_settings: int
    share: float
    correlation: float | None
    p_value: float
    family_p_value: float


def find_importances(records: Sequence[TrialRecord], question: Question) -> tuple[Importance, ...]:
    """Per network, metric of the run and parameter, in this order; networks with fewer than six settings have none."""
    finished = [record for record in records if record.status == "finished"]
    parameters = find_parameters(finished)
    settings = {record.id: settings_but_seed(record) for record in finished}
    return tuple(
        importance
        for network in sorted({record.network for record in finished})
        for metric in question.metrics
        for importance in _importances(metric, parameters, [r for r in finished if r.network == network], settings)
    )


def _importances(
    metric: Metric, parameters: Sequence[Parameter], records: Sequence[TrialRecord], settings: Mapping[str, str]
) -> list[Importance]:
    orders: dict[tuple[str, ...], int] = {}
    tested = [(parameter, _test(_compare(metric, parameter, records, settings), orders)) for parameter in parameters]
    found = [(parameter, test) for parameter, test in tested if test is not None]
    fewest = np.min([test.as_large for _, test in found], axis=0) if found else np.empty(0, dtype=np.intp)
    return [
        Importance(
            network=records[0].network,
            metric=metric.name,
            parameter=parameter.label,
            num_trials=test.compared.num_trials,
            num_settings=test.compared.num_settings,
            share=test.share,
            correlation=None if parameter.choices else test.correlation,
            p_value=int(test.as_large[0]) / (PERMUTATIONS + 1),
            family_p_value=int((fewest <= test.as_large[0]).sum()) / (PERMUTATIONS + 1),
        )
        for parameter, test in found
    ]


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """What is ranked: a row for each of the settings, or for each trial where the parameter is the seed.

    Args:
        trials: ids of the trials that the rows are made of.
        places, values: of the parameter and of the metric, by row.
        blocks: within which rows may change places, by row.
    """

    trials: tuple[str, ...]
    num_settings: int
    is_choice: bool
    places: Floats
    values: Floats
    blocks: NDArray[np.int32]

    @property
    def num_trials(self) -> int:
        return len(self.trials)


@dataclass(frozen=True, kw_only=True)
class _Test:
    """A parameter's share, and how unlikely it is.

    Args:
        as_large: (1 + PERMUTATIONS,): how many of all these orders, the one that was found first, explain at least as
            much as each of them.
    """

    compared: _Compared
    share: float
    correlation: float
    as_large: Counts


def _compare(
    metric: Metric, parameter: Parameter, records: Sequence[TrialRecord], settings: Mapping[str, str]
) -> _Compared:
    """Of the trials that sampled the parameter and of which the metric is known."""
    known = {
        record.id: (parameter.place(record.sampled[parameter.name]), value)
        for record in records
        if parameter.is_sampled(record) and (value := record.validated(metric.column)) is not None
    }
    by_settings: dict[str, list[str]] = {}
    for trial in known:
        by_settings.setdefault(settings[trial], []).append(trial)
    rows, blocks = list(by_settings.values()), [0] * len(by_settings)
    if parameter.name == "seed":
        rows = [[trial] for trial in known]
        own = {settings: number for number, (settings, ours) in enumerate(by_settings.items(), 1) if len(ours) > 1}
        blocks = [own.get(settings[trial], 0) for trial in known]
    return _Compared(
        trials=tuple(known),
        num_settings=len(by_settings),
        is_choice=bool(parameter.choices),
        # Trials of equal settings have an equal place, too.
        places=np.array([known[row[0]][0] for row in rows], dtype=np.float64),
        values=np.array([np.mean([known[trial][1] for trial in row]) for row in rows], dtype=np.float64),
        blocks=np.array(blocks, dtype=np.int32),
    )


def _test(compared: _Compared, orders: dict[tuple[str, ...], int]) -> _Test | None:
    """`orders`: which permutations the trials of an earlier parameter got; added to."""
    places, values = compared.places, compared.values
    if compared.num_settings < FEWEST or any(len(np.unique(side)) < 2 for side in (places, values)):
        return None
    if compared.is_choice and len(np.unique(places)) == len(places):
        return None
    explained, ranked = _explained_by(places, is_choice=compared.is_choice), _standardised(values)
    # Parameters of the same trials share their permutations; those of others have their own, which makes the smallest
    # p-value by chance too small, if anything.
    order = orders.setdefault(compared.trials, len(orders))
    shuffled = _shuffled(ranked.tobytes(), compared.blocks.tobytes(), order)
    share = float(((explained @ ranked) ** 2).sum())
    return _Test(
        compared=compared,
        share=share,
        correlation=float(explained[0] @ ranked),
        as_large=_count_as_large(np.append(share, ((shuffled @ explained.T) ** 2).sum(axis=1))),
    )


def _count_as_large(shares: Floats) -> Counts:
    """How many of the shares are at least as large as each of them, itself among them."""
    # Rounding must not make a permutation that is the order itself fall short of it.
    return len(shares) - np.searchsorted(np.sort(shares), shares - 1e-9)


# The parameters of a network are known of the same trials, as a rule, and so are its metrics: each is drawn once.
@lru_cache(maxsize=1)
def _shuffled(ranked: bytes, blocks: bytes, order: int) -> Floats:
    """The ranks in each of `PERMUTATIONS` orders, a row each: 160 MB for ten thousand trials."""
    return np.frombuffer(ranked)[_permutations(blocks, order)]


@lru_cache(maxsize=1)
def _permutations(blocks: bytes, order: int) -> NDArray[np.int32]:
    """Orders of so many rows, each within its block, the same ones each time."""
    of_rows, generator = np.frombuffer(blocks, dtype=np.int32), np.random.default_rng(SEED + order)
    orders = np.tile(np.arange(len(of_rows), dtype=np.int32), (PERMUTATIONS, 1))
    for block in np.unique(of_rows):
        ours = np.flatnonzero(of_rows == block)
        orders[:, ours] = generator.permuted(orders[:, ours], axis=1)
    return orders


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
