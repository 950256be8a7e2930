"""Each scored trial beside the baseline it is compared to: same network, same data set, same seed."""

from __future__ import annotations

from dataclasses import dataclass

from gcc_search.errors import ResultsError
from gcc_search.results.reader import Run, Trial
from gcc_search.results.schema import TrialRecord

SCORED = ("finished", "collapsed")
"""Statuses whose test accuracy says what the settings lead to; a trial that was stopped early never had its chance."""

REDO = "gcc-search resume RUN trains what is missing"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A trial and its baseline. Differences between the two are paired image by image."""

    trial: TrialRecord
    baseline: TrialRecord

    @property
    def tradeoff_points(self) -> float | None:
        """Baseline - trained test accuracy, in points; positive is a loss. None where a test split was not scored."""
        trained, untouched = test_accuracy(self.trial), test_accuracy(self.baseline)
        return None if trained is None or untouched is None else untouched - trained


def test_accuracy(record: TrialRecord) -> float | None:
    """Top-1 on the test split, in points, 0 to 100; None where it was not scored."""
    return None if record.test is None else record.test.get("accuracy_points")


def pair_with_baselines(run: Run) -> tuple[Pair, ...]:
    """Every finished or collapsed trial with its baseline, in the order of the trials' folders; not those that wait.

    Raises:
        ResultsError: a baseline is missing, damaged, or of another network, data set or seed.
    """
    waiting = set(waiting_trials(run))
    scored = [trial for trial in run.trials if trial.record.status in SCORED]
    return tuple(_pair(run, trial) for trial in scored if trial.record.id not in waiting)


def waiting_trials(run: Run) -> tuple[str, ...]:
    """Ids of trials that ended before their baseline did, or whose baseline did not finish: compared to nothing yet."""
    scored = (trial for trial in run.trials if trial.record.status in SCORED)
    return tuple(trial.record.id for trial in scored if _waits(run, trial))


def _waits(run: Run, trial: Trial) -> bool:
    """Whether its baseline has not begun, or not finished; a torn one is told of elsewhere."""
    key = trial.record.baseline
    if key is None:
        return False
    baseline = run.baselines.get(key)
    if baseline is not None:
        return baseline.record.status != "finished"
    return not _problems_of_baseline(run, trial)


def _pair(run: Run, trial: Trial) -> Pair:
    key = trial.record.baseline
    baseline = run.baselines.get(key) if key is not None else None
    if baseline is None:
        got = _what_is_there(run, trial)
        raise ResultsError(f"{trial.folder}: must have its baseline in {run.folder / 'baselines'}, got {got}; {REDO}")
    if test_accuracy(baseline.record) is None or baseline.record.validation is None:
        status = baseline.record.status
        raise ResultsError(
            f"{baseline.folder}: must be scored, as a baseline of {trial.record.id}, got {status}; {REDO}"
        )
    for what in ("network", "data", "seed"):
        _check_same(what, trial, baseline)
    return Pair(trial=trial.record, baseline=baseline.record)


def _what_is_there(run: Run, trial: Trial) -> str:
    refused = _problems_of_baseline(run, trial)
    return f"a torn one ({refused[0]})" if refused else f"no {trial.record.baseline}"


def _problems_of_baseline(run: Run, trial: Trial) -> list[str]:
    # Of several runs read together, keys have the run's name before them, and folders do not.
    name = (trial.record.baseline or "").rpartition("/")[2]
    folder = trial.folder.parent.parent / "baselines" / name
    return [problem for problem in run.problems if problem.startswith(f"{folder}/")]


def _check_same(what: str, trial: Trial, baseline: Trial) -> None:
    ours, theirs = _identity(trial.record)[what], _identity(baseline.record)[what]
    if ours != theirs:
        rule = f"{what} must be that of its baseline {baseline.folder.name}, {theirs}"
        raise ResultsError(f"{trial.folder}: {rule}, got {ours}; the folders were mixed up: delete this one")


def _identity(record: TrialRecord) -> dict[str, object]:
    return {"network": record.network, "data": record.data_fingerprint, "seed": record.settings["seed"]}
