"""Early stopping under several objectives and constraints, by successive halving (ASHA: Li et al., 2020).

Ours rather than Ray's, whose schedulers know one metric: trials are compared by all that the search ranks by, and by
the constraints first, since what raises one objective most is often what breaks a constraint. Baselines are never
stopped, networks and seeds are not compared with each other, and what decides is a pure function of the values at a
rung, so that the state can be rebuilt from the trials' rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from gcc_search.collapse import epoch_compared
from gcc_search.objectives import METRICS
from gcc_search.search.rung import Rung
from gcc_search.search.study import trials_per_network
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import EarlyTerminate

# A row of epochs.parquet, or part of one.
Row = Mapping[str, Any]
# Network, seed, epoch.
Place = tuple[str, int, int]


@dataclass(frozen=True)
class _Reached:
    """What a trial reached at a rung: its losses, and its row; its baseline's key."""

    trial_id: str
    losses: list[float]
    row: Row
    baseline: str | None


def list_rungs(early: EarlyTerminate, epochs: int) -> tuple[int, ...]:
    """Epochs after which trials are compared: min_epochs, times eta, ... below the last one."""
    last = min(epochs, early.max_epochs or epochs)
    rungs: list[int] = []
    epoch = early.min_epochs
    while epoch < last:
        rungs.append(epoch)
        epoch *= early.eta
    return tuple(rungs)


class SuccessiveHalving(FIFOScheduler):
    """Ray's side of it: reads what `Job.in_reports` says, `epoch` and `columns` from each report.

    Args:
        space: one with early_terminate.
        rows_of: a baseline's rows so far by its key, epoch after epoch, with these `columns`.
    """

    def __init__(self, space: SearchSpace, rows_of: Callable[[str], Sequence[Row]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        assert space.early_terminate is not None, "made for spaces that have it"
        self._early = early = space.early_terminate
        names = [early.metric] if early.metric else [metric.name for metric in space.metrics]
        self._metrics = [METRICS[name] for name in names]
        self._constraints = space.parsed_constraints()
        self._is_relative = any(constraint.relative for constraint in self._constraints)
        self._rows_of = rows_of
        self._caps = trials_per_network(space)
        self._epochs = list_rungs(early, space.most_epochs)
        self._rungs: dict[Place, Rung] = {}
        self._ahead: dict[Place, list[_Reached]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """What decides, of the columns of epochs.parquet."""
        asked = [*self._metrics, *(constraint.metric for constraint in self._constraints)]
        return tuple(dict.fromkeys(metric.column for metric in asked))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if result["role"] != "trial":
            return str(TrialScheduler.CONTINUE)
        place = {"network": result["network"], "seed": result["seed"], "baseline": result["baseline"]}
        stays = self.add(result["id"], result, **place)
        return str(TrialScheduler.CONTINUE if stays else TrialScheduler.STOP)

    def add(self, trial_id: str, row: Row, *, network: str, seed: int, baseline: str | None) -> bool:
        """Notes what a trial reached after `row["epoch"]`; False where that is a rung and not enough to go on.

        Args:
            network, seed: trials are compared with others of these: another seed may have had an easier start.
            baseline: key of the one that it is compared to.
        """
        reached = [(metric, row.get(metric.column)) for metric in self._metrics]
        losses = [metric.loss(value) for metric, value in reached if value is not None]
        if row["epoch"] not in self._epochs or len(losses) < len(reached):
            return True
        place = (network, seed, row["epoch"])
        if place not in self._rungs:
            self._rungs[place] = Rung(self._caps[network], len(losses))
        violation = self._violation(row, baseline)
        if violation is None:
            # Its baseline trains beside it. What is ahead of that is compared to nobody, and goes on.
            self._ahead.setdefault(place, []).append(_Reached(trial_id, losses, row, baseline))
            return True
        self._enter_those_ahead(place)
        return self._rungs[place].add(trial_id, losses, violation, eta=self._early.eta)

    def _enter_those_ahead(self, place: Place) -> None:
        """Others are compared to them, once their baseline has come so far."""
        for item in self._ahead.pop(place, []):
            violation = self._violation(item.row, item.baseline)
            if violation is None:
                self._ahead.setdefault(place, []).append(item)
            else:
                self._rungs[place].add(item.trial_id, item.losses, violation, eta=self._early.eta)

    def _violation(self, row: Row, baseline: str | None) -> float | None:
        """Of all constraints together, against the baseline as it was when a trial's collapse is judged by it.

        None where that has not come so far.
        """
        of_baseline = self._baseline_row(baseline, epoch_compared(row["epoch"])) if self._is_relative else {}
        if of_baseline is None:
            return None
        found = 0.0
        for constraint in self._constraints:
            column = constraint.metric.column
            value, bound = row.get(column), of_baseline.get(column) if constraint.relative else 0.0
            if value is not None and bound is not None:
                found += max(0.0, constraint.violated_share(value, bound))
        return found

    def _baseline_row(self, key: str | None, epoch: int) -> Row | None:
        """Nothing of before its first epoch; None where it has not come so far, or cannot be read."""
        if key is None or not epoch:
            return {}
        rows = self._rows_of(key)
        return rows[epoch - 1] if epoch <= len(rows) else None
