"""Early stopping by successive halving (ASHA: Li et al., 2020) on one metric of the validation split.

Ours rather than Ray's: baselines are never stopped, networks are not compared with each other, and what decides is a
pure function of the values at a rung, so that the state can be rebuilt from the trials' rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from gcc_search.objectives import METRICS
from gcc_search.vocabulary import EarlyTerminate


class Rung:
    """What trials reached after one epoch, larger is better. Kept in order: thousands of trials report to it."""

    def __init__(self) -> None:
        self._reached: dict[str, float] = {}
        # Without NaN, which is neither better than another value nor worse.
        self._ordered: list[float] = []

    def add(self, trial_id: str, value: float, *, eta: int) -> bool:
        """True where `value` is among the best 1 / eta, rounded up, of itself and what other trials reached."""
        # One that goes on from its checkpoint may come by again.
        before = self._reached.pop(trial_id, math.nan)
        if not math.isnan(before):
            del self._ordered[bisect_left(self._ordered, before)]
        better = len(self._ordered) - bisect_right(self._ordered, value)
        self._reached[trial_id] = value
        if not math.isnan(value):
            insort(self._ordered, value)
        return better < math.ceil(len(self._reached) / eta)


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
    """Ray's side of it: reads `id`, `role`, `network`, `epoch` and the metric's column from each report."""

    def __init__(self, early: EarlyTerminate, *, epochs: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.column = METRICS[early.metric].column
        self._sign = 1.0 if METRICS[early.metric].goal == "maximize" else -1.0
        self._eta = early.eta
        self._reached: dict[tuple[str, int], Rung] = {}
        self._rungs = list_rungs(early, epochs)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if result["role"] != "trial":
            return str(TrialScheduler.CONTINUE)
        stays = self.add(result["network"], result["id"], result["epoch"], result.get(self.column))
        return str(TrialScheduler.CONTINUE if stays else TrialScheduler.STOP)

    def add(self, network: str, trial_id: str, epoch: int, value: float | None) -> bool:
        """Notes what a trial reached after `epoch`; False where that is a rung and not enough to go on."""
        if epoch not in self._rungs or value is None:
            return True
        rung = self._reached.setdefault((network, epoch), Rung())
        return rung.add(trial_id, self._sign * value, eta=self._eta)
