"""One Optuna study for each network: asks for settings, tells what came of them. A cache of the trial directories.

The sampler works in memory, and `StudyCopy` writes what it sees: a database between them would cost more than all else
that handing out a trial takes.

Differs from `ray.tune.search.optuna.OptunaSearch`: constraints are told; a trial that was stopped early is told as
pruned, and as worse than those that finished, not as complete with the values of a half-trained network; a diverged or
collapsed one as infeasible with finite values, so that it does not stay RUNNING for ever; the sampler is a function of
(seed, network, number), so that it survives a restart.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from gcc_search.objectives import METRICS
from gcc_search.results.schema import TrialRecord
from gcc_search.search.domains import to_distribution
from gcc_search.search.history import History
from gcc_search.search.sampler import make_sampler
from gcc_search.search.study_copy import StudyCopy
from gcc_search.settings import NetworkName
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import Value

# Violation of a trial that did not train, and of one that was stopped early. Constraints come to a few together, each
# to a share of what its metric can be.
UNTRAINED_VIOLATION, STOPPED_VIOLATION = 1000.0, 100.0


class NetworkStudy:
    """The trials of one network in one search. `storage` gets a copy of the study, and is not read.

    Args:
        tell: hears a line where that copy is given up.
    """

    def __init__(
        self, space: SearchSpace, network: str, storage: BaseStorage, *, cap: int, tell: Callable[[str], None]
    ) -> None:
        self.network, self.cap = network, cap
        self._space = space
        self._distributions = {name: to_distribution(item) for name, item in space.parameters.items()}
        self._points = list_points(space)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        goals = [METRICS[metric.name].goal for metric in space.metrics]
        self._study = optuna.create_study(study_name=study_name(space, network), directions=goals)
        with warnings.catch_warnings():
            # Experimental in Optuna since 3.2; names its columns in optuna-dashboard.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names([metric.name for metric in space.metrics])
            self._copy = StudyCopy(self._study, storage, tell)
        self._history = History(self._distributions, self._study.directions, cap=cap)
        self._asked: dict[str, optuna.Trial] = {}

    @property
    def num_asked(self) -> int:
        return len(self._asked)

    @property
    def is_exhausted(self) -> bool:
        return self.num_asked >= self.cap

    def ask(self) -> tuple[str, dict[str, Value]]:
        """A new trial's id and settings."""
        number = self.num_asked
        self._study.sampler = make_sampler(self._space, self.network, number, cap=self.cap, history=self._history)
        known = self._seed_of(number) | dict(self._points[number] if number < len(self._points) else {})
        if known:
            self._study.enqueue_trial(known)
        trial_id = trial_name(self.network, number)
        return trial_id, dict(self._begin(trial_id).params)

    def _seed_of(self, number: int) -> dict[str, Value]:
        """Seeds that are searched are dealt out in turn: who could choose one would choose the luckiest."""
        parameter = self._space.parameters.get("seed")
        seeds = () if parameter is None else parameter.choices or ()
        return {"seed": seeds[number % len(seeds)]} if len(seeds) > 1 else {}

    def recall(self, trial_id: str, sampled: Mapping[str, Value]) -> None:
        """Asks for a trial of an earlier process again: the next number, with the settings it had."""
        assert trial_id == trial_name(self.network, self.num_asked), "trials are recalled in order"
        self._study.enqueue_trial(dict(sampled))
        self._begin(trial_id)

    def _begin(self, trial_id: str) -> optuna.Trial:
        trial = self._study.ask(self._distributions)
        trial.set_user_attr("trial_id", trial_id)
        begun = self._study.get_trials(deepcopy=False)[trial.number]
        self._copy.begin(begun)
        self._history.begin(begun)
        self._asked[trial_id] = trial
        return trial

    def tell(self, record: TrialRecord, baseline: TrialRecord | None) -> None:
        """What became of a trial, from its record and its baseline's."""
        trial = self._asked[record.id]
        if record.status not in ("finished", "collapsed", "diverged", "stopped"):
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            for name, violation in violations(self._space, record, baseline).items():
                trial.set_constraint(name, violation)
            if record.status == "stopped":
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, objective_values(self._space, record))
        ended = self._study.get_trials(deepcopy=False)[trial.number]
        self._copy.end(ended)
        self._history.end(ended)


def trial_name(network: str, number: int) -> str:
    """A trial's id and folder name; `number` counts the network's trials from 0."""
    return f"{network}-{number:04d}"


def study_name(space: SearchSpace, network: str) -> str:
    return f"{space.name}/{network}"


def list_points(space: SearchSpace) -> list[Mapping[str, Value]]:
    """Settings to be tried before the sampler is asked: `points:`, then the whole grid under `method: grid`."""
    points: list[Mapping[str, Value]] = [dict(point) for point in space.points]
    if space.method == "grid":
        names = list(space.parameters)
        choices = [space.parameters[name].choices or () for name in names]
        points += [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]
    return points


def trials_per_network(space: SearchSpace) -> dict[NetworkName, int]:
    """`run_cap` dealt out over the networks in turn; without one, all the points."""
    num_networks = len(space.networks)
    points = len(list_points(space))
    if space.run_cap is None:
        return dict.fromkeys(space.networks, points)
    share, rest = divmod(space.run_cap, num_networks)
    caps = {network: share + (i < rest) for i, network in enumerate(space.networks)}
    if space.method in ("grid", "points"):
        caps = {network: min(cap, points) for network, cap in caps.items()}
    return caps


def objective_values(space: SearchSpace, record: TrialRecord) -> list[float]:
    """The record's objectives on the validation split; each metric's worst value where the network did not train."""
    metrics = [METRICS[metric.name] for metric in space.metrics]
    if record.status != "finished" or record.validation is None:
        return [metric.worst for metric in metrics]
    values = [record.validation[metric.column] for metric in metrics]
    return [metric.worst if value is None else value for metric, value in zip(metrics, values, strict=True)]


def violations(space: SearchSpace, record: TrialRecord, baseline: TrialRecord | None) -> dict[str, float]:
    """By constraint: how far it is violated, as a share of what its metric can be; at most 0 where it holds.

    What did not finish violates `trained`: one that was stopped early counts as worse than all that finished, since it
    was when it was stopped, and as better than what failed.
    """
    trained = {"finished": 0.0, "stopped": STOPPED_VIOLATION}.get(record.status, UNTRAINED_VIOLATION)
    found = {"trained": trained}
    # Trials begin beside their baseline: it may have failed after all.
    standard = baseline if baseline is not None and baseline.status == "finished" else None
    for constraint in space.parsed_constraints():
        has_values = record.status in ("finished", "stopped")
        value = _validation(record, constraint.metric.column) if has_values else constraint.metric.worst
        of_baseline = _validation(standard, constraint.metric.column) if constraint.relative else 0.0
        if value is None or of_baseline is None:
            found[constraint.text] = UNTRAINED_VIOLATION
        else:
            found[constraint.text] = constraint.violated_share(value, of_baseline)
    return found


def _validation(record: TrialRecord | None, column: str) -> float | None:
    return None if record is None or record.validation is None else record.validation.get(column)
