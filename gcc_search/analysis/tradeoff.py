"""Figure 3 of the paper as data: how much test accuracy training on explanations costs, network by network.

Accuracy tradeoff = baseline - trained top-1 on the test split, in points, paired by network, data set and seed.
Positive is a loss. Trials that collapsed are kept apart: one of them moves a mean more than all the others do, and most
were given up after a few epochs, while their baselines were trained to the end. Trials that were stopped early have no
test accuracy and are in no box: it is then over what early stopping left, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gcc_search.analysis.given_up import Reach, is_short, reach_of
from gcc_search.analysis.pairing import Pair
from gcc_search.results.schema import TrialRecord

# Tukey's whiskers: the outermost values within 1.5 interquartile ranges of the box.
WHISKER = 1.5


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A distribution in the unit of its values. `sd` is the sample's (n - 1); None where n is 1."""

    n: int
    mean: float
    sd: float | None
    whisker_low: float
    quartile_1: float
    median: float
    quartile_3: float
    whisker_high: float


@dataclass(frozen=True, kw_only=True)
class NetworkTradeoff:
    """One box of the figure.

    Args:
        finished_ids, finished: trials that ran to their end, and what each lost, in points.
        collapsed_ids, collapsed: the same of collapsed trials whose test split was scored.
        collapsed_epochs_done: how many epochs each of these had. collapsed_epochs_asked: how many its recipe has; None
            where its record does not say.
        spread_finished, spread_all: without and with collapsed trials; None where there is none.
        counts: trials of this network by status, whether scored or not.
    """

    network: str
    finished_ids: tuple[str, ...]
    finished: tuple[float, ...]
    collapsed_ids: tuple[str, ...]
    collapsed: tuple[float, ...]
    collapsed_epochs_done: tuple[int, ...]
    collapsed_epochs_asked: tuple[int | None, ...]
    spread_finished: Spread | None
    spread_all: Spread | None
    counts: dict[str, int]

    @property
    def num_stopped(self) -> int:
        """Trials that were stopped early, so that the box is without them."""
        return self.counts.get("stopped", 0)

    @property
    def given_up(self) -> tuple[Reach, ...]:
        """How far each collapsed trial came that was not trained to its last epoch."""
        reaches = zip(self.collapsed_epochs_done, self.collapsed_epochs_asked, strict=True)
        return tuple(reach for reach in reaches if is_short(reach))


def accuracy_tradeoffs(pairs: Sequence[Pair], records: Sequence[TrialRecord]) -> tuple[NetworkTradeoff, ...]:
    """The box of each network that `records` (trials of any status) name, in alphabetical order."""
    networks = sorted({record.network for record in records})
    return tuple(_of_network(network, pairs, records) for network in networks)


def _of_network(network: str, pairs: Sequence[Pair], records: Sequence[TrialRecord]) -> NetworkTradeoff:
    finished, collapsed = _scores(network, "finished", pairs), _scores(network, "collapsed", pairs)
    reaches = {record.id: reach_of(record) for record in records}
    return NetworkTradeoff(
        network=network,
        finished_ids=tuple(finished),
        finished=tuple(finished.values()),
        collapsed_ids=tuple(collapsed),
        collapsed=tuple(collapsed.values()),
        collapsed_epochs_done=tuple(reaches[name][0] for name in collapsed),
        collapsed_epochs_asked=tuple(reaches[name][1] for name in collapsed),
        spread_finished=spread([*finished.values()]),
        spread_all=spread([*finished.values(), *collapsed.values()]),
        counts=count_statuses([record for record in records if record.network == network]),
    )


def _scores(network: str, status: str, pairs: Sequence[Pair]) -> dict[str, float]:
    ours = [pair for pair in pairs if pair.trial.network == network and pair.trial.status == status]
    return {pair.trial.id: pair.tradeoff_points for pair in ours if pair.tradeoff_points is not None}


def count_statuses(records: Sequence[TrialRecord]) -> dict[str, int]:
    """How many trials have which status, in alphabetical order of the statuses that occur."""
    statuses = [record.status for record in records]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def spread(values: Sequence[float]) -> Spread | None:
    """Mean, sample standard deviation and the five numbers of a box plot; None for no values.

    Quartiles are numpy's (linear interpolation), whiskers Tukey's.
    """
    if not values:
        return None
    array = np.asarray(values, dtype=np.float64)
    quartile_1, median, quartile_3 = np.quantile(array, [0.25, 0.5, 0.75])
    reach = WHISKER * (quartile_3 - quartile_1)
    return Spread(
        n=array.size,
        mean=float(array.mean()),
        sd=float(array.std(ddof=1)) if array.size > 1 else None,
        # Interpolated quartiles can lie beyond the last value within reach: the whisker then has no length.
        whisker_low=float(min(array[array >= quartile_1 - reach].min(), quartile_1)),
        quartile_1=float(quartile_1),
        median=float(median),
        quartile_3=float(quartile_3),
        whisker_high=float(max(array[array <= quartile_3 + reach].max(), quartile_3)),
    )
