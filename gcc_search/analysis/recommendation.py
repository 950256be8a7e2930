"""The trial to use: of those that keep the constraints and cost little accuracy, the one with the highest C*.

The validation split decides; what the test split says is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gcc_search.analysis.comparison import Comparison, compare_chosen
from gcc_search.analysis.feasibility import Question, first_broken, read_question
from gcc_search.analysis.findings import check_searched, say_way_out
from gcc_search.analysis.frontier import find_frontier
from gcc_search.analysis.paired_images import read_paired
from gcc_search.analysis.pairing import Pair, pair_with_baselines
from gcc_search.analysis.seeds import SeedSpread, alike_to
from gcc_search.errors import ResultsError
from gcc_search.objectives import closest
from gcc_search.results.reader import Run, Trial, find_damage
from gcc_search.results.schema import TrialRecord

# How a trial that --max-accuracy-drop leaves out is told.
_LOSING = "losing more than"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user will have: at most so many points of accuracy lost (None: the constraints alone), one network."""

    max_accuracy_drop: float | None = None
    network: str | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trial that could be used. Both values: validation split. `drop_points`: baseline - trained."""

    trial: str
    corrected_consistency: float
    drop_points: float


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """So many trials, and why."""

    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The trial to use, and why it is that one.

    Args:
        trial, baseline: where they are.
        considered: trials of the wished network, whatever became of them.
        runner_up: the next best; None where no other qualifies.
        comparison: trial against baseline on the test split.
        gain_over_seeds: of C*, where these settings were trained under several seeds, whatever became of them.
        was_chosen_by_seed: whether they were preferred to other settings by one of these seeds, whose luck is in the
            mean over all of them. Others were considered even where a constraint, or their failing, left them out.
        gain_is_beyond_noise: whether the 95 % interval of the gain in C* leaves out 0 from above: that over seeds, else
            that over test images; None where there is none, or one over too few images to say. False where the
            settings diverged under a seed, or collapsed without a value.
        problems: a line for each file that was refused: records of trials, tables of these two.
    """

    trial: Trial
    baseline: Trial
    chosen: Candidate
    considered: int
    excluded: tuple[Excluded, ...]
    runner_up: Candidate | None
    comparison: Comparison
    gain_over_seeds: SeedSpread | None
    was_chosen_by_seed: bool
    gain_is_beyond_noise: bool | None
    problems: tuple[str, ...]

    @property
    def num_qualified(self) -> int:
        """Trials that could have been chosen."""
        return self.considered - sum(item.count for item in self.excluded)


@dataclass(frozen=True, kw_only=True)
class _Field:
    """Who takes part: pairs by trial, the names of those that qualify, all that were considered, why others do not."""

    question: Question
    by_id: dict[str, Pair]
    names: tuple[str, ...]
    considered: tuple[TrialRecord, ...]
    excluded: tuple[Excluded, ...]


def recommend(run: Run, wish: Wish) -> Recommendation:
    """The recommended trial of `run`.

    Raises:
        ResultsError: a run of `gcc-search train`, no trial of the network, no trial that qualifies, or a scored trial
            whose baseline is damaged.
    """
    field = _qualify(run, wish)
    ranked = sorted(
        (_candidate(field.by_id[name]) for name in field.names), key=lambda one: (-one.corrected_consistency, one.trial)
    )
    return _recommend(run, field, ranked)


def recommend_frontier(run: Run, wish: Wish) -> tuple[Recommendation, ...]:
    """Every trial that no other which qualifies beats in all that the search ranks by, and accuracy, C* and Gini.

    By rising Gini, as on the figure from left to right. None of them has a runner-up.

    Raises:
        ResultsError: see `recommend`.
    """
    field = _qualify(run, wish)
    frontier = find_frontier([field.by_id[name] for name in field.names], field.question)
    members = [field.by_id[point.id] for point in frontier.points if point.on_frontier]
    if not members:
        raise ResultsError(f"{run.folder}: must have a trial with all that it ranks by, got none; see analyze")
    members.sort(key=lambda pair: (pair.trial.validated("gini") or 0.0, pair.trial.id))
    return tuple(_recommend(run, field, [_candidate(pair)]) for pair in members)


def _qualify(run: Run, wish: Wish) -> _Field:
    check_searched(run)
    _check_network(run, wish)
    question, pairs = read_question(run.record), pair_with_baselines(run)
    wished = [trial for trial in run.trials if wish.network in (None, trial.record.network)]
    by_id = {pair.trial.id: pair for pair in pairs}
    reasons = {trial.record.id: _why_not(run, trial, by_id.get(trial.record.id), question, wish) for trial in wished}
    excluded = tuple(
        Excluded(count=count, reason=reason) for reason, count in Counter(filter(None, reasons.values())).items()
    )
    names = tuple(name for name, reason in reasons.items() if reason is None)
    if not names:
        raise _none_qualifies(run, wished, [pair for name, pair in by_id.items() if name in reasons], excluded)
    considered = tuple(trial.record for trial in wished)
    return _Field(question=question, by_id=by_id, names=names, considered=considered, excluded=excluded)


def _recommend(run: Run, field: _Field, ranked: Sequence[Candidate]) -> Recommendation:
    by_id = field.by_id
    pair = by_id[ranked[0].trial]
    trial = next(trial for trial in run.trials if trial.record.id == pair.trial.id)
    baseline = next(trial for trial in run.baselines.values() if trial.record.id == pair.baseline.id)
    images = {pair.trial.id: read_paired(trial, baseline)}
    (comparison,) = compare_chosen([pair], [*by_id.values()], [trial.record for trial in run.trials], images)
    is_alike = alike_to(pair.trial)
    over_seeds = next((spread for spread in comparison.seeds if spread.measure == "C*"), None)
    return Recommendation(
        trial=trial,
        baseline=baseline,
        chosen=ranked[0],
        considered=len(field.considered),
        excluded=field.excluded,
        runner_up=ranked[1] if len(ranked) > 1 else None,
        comparison=comparison,
        gain_over_seeds=over_seeds,
        was_chosen_by_seed=over_seeds is not None and not all(map(is_alike, field.considered)),
        gain_is_beyond_noise=_is_beyond_noise(comparison, over_seeds),
        problems=(*run.problems, *find_damage(trial), *find_damage(baseline)),
    )


def _is_beyond_noise(comparison: Comparison, over_seeds: SeedSpread | None) -> bool | None:
    """Of seeds, where several have a value, else of the test images."""
    if over_seeds is not None and over_seeds.is_broken:
        return False
    if over_seeds is not None and over_seeds.low is not None:
        return over_seeds.low > 0
    told = (None, "too few images")
    line = next((line for line in comparison.lines if line.measure == "C*" and line.verdict not in told), None)
    return None if line is None else line.verdict == "apart" and line.difference > 0


def _check_network(run: Run, wish: Wish) -> None:
    known = tuple(sorted({trial.record.network for trial in run.trials}))
    if wish.network is not None and wish.network not in known:
        raise ResultsError(
            f"--network: must be one of {run.folder}, got {wish.network}; {closest(wish.network, known)}"
        )


def _why_not(run: Run, trial: Trial, pair: Pair | None, question: Question, wish: Wish) -> str | None:
    """The first reason against a trial, None where there is none."""
    if trial.record.status != "finished":
        return trial.record.status
    if pair is None:
        return "beside a baseline that diverged" if _is_lost(run, trial) else "waiting for the baseline"
    if trial.record.validated("corrected_consistency") is None:
        return "without C*"
    broken = first_broken(pair, question.constraints)
    if broken is not None:
        return f"breaking {broken.text}"
    if wish.max_accuracy_drop is not None and _drop(pair) > wish.max_accuracy_drop:
        return f"{_LOSING} {wish.max_accuracy_drop:g} points"
    return None


def _is_lost(run: Run, trial: Trial) -> bool:
    """Whether its baseline has diverged, as it would again."""
    baseline = run.baselines.get(trial.record.baseline or "")
    return baseline is not None and baseline.record.status == "diverged"


def _drop(pair: Pair) -> float:
    trained, untouched = (record.validated("accuracy_points") for record in (pair.trial, pair.baseline))
    assert trained is not None, "every epoch has an accuracy"
    assert untouched is not None, "every epoch has an accuracy"
    # To the rounding of two shares of images: as constraints have it.
    return round(untouched - trained, 9)


def _candidate(pair: Pair) -> Candidate:
    corrected = pair.trial.validated("corrected_consistency")
    assert corrected is not None, "trials without were left out"
    return Candidate(trial=pair.trial.id, corrected_consistency=corrected, drop_points=_drop(pair))


def say_excluded(excluded: Sequence[Excluded]) -> str:
    """`2 collapsed, 3 losing more than 0.5 points`; `none`."""
    return ", ".join(f"{item.count} {item.reason}" for item in excluded) or "none"


def _none_qualifies(
    run: Run, wished: Sequence[Trial], pairs: Sequence[Pair], excluded: Sequence[Excluded]
) -> ResultsError:
    finished = [pair for pair in pairs if pair.trial.status == "finished"]
    told = f"{run.folder}: must have a trial that qualifies, got none ({say_excluded(excluded)})"
    if not finished:
        lost = [run.baselines[trial.record.baseline or ""] for trial in wished if _is_lost(run, trial)]
        others = [trial for trial in wished if not _is_lost(run, trial)]
        return ResultsError(f"{told}; {say_way_out([trial.record for trial in (*others, *lost)])}")
    closest_one = min(finished, key=lambda pair: (_drop(pair), pair.trial.id))
    smallest = f"the smallest drop is {_drop(closest_one):.2f} points, of {closest_one.trial.id} (validation split)"
    raised = "raise --max-accuracy-drop, or " if any(item.reason.startswith(_LOSING) for item in excluded) else ""
    return ResultsError(f"{told}; {smallest}; {raised}search with other ranges or constraints")
