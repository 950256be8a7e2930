"""Everything that is computed from a run directory, as plain values; writes and draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcc_search.analysis.best import Row, best_trials
from gcc_search.analysis.boundary import Boundary, find_boundary
from gcc_search.analysis.comparison import Comparison, choose_trials, compare_chosen
from gcc_search.analysis.distribution import ConsistencyPanel, consistency_panels
from gcc_search.analysis.effects import Effect, find_effects
from gcc_search.analysis.feasibility import read_question
from gcc_search.analysis.frontier import Frontier, find_frontier
from gcc_search.analysis.growth import Growth, find_growth
from gcc_search.analysis.importance import Importance, find_importances
from gcc_search.analysis.paired_images import PairedImages, read_paired
from gcc_search.analysis.pairing import Pair, pair_with_baselines, waiting_trials
from gcc_search.analysis.tradeoff import NetworkTradeoff, accuracy_tradeoffs, count_statuses
from gcc_search.errors import ResultsError
from gcc_search.results.reader import Run, find_damage
from gcc_search.results.schema import RunRecord, TrialRecord


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a run says.

    Args:
        counts: trials by status, whether scored or not.
        problems: one line per file that was refused.
        waiting: ids of trials left out because their baseline is still being trained.
        records: trials of any status. pairs: those that are scored, with their baselines.
    """

    run: RunRecord
    counts: dict[str, int]
    problems: tuple[str, ...]
    waiting: tuple[str, ...]
    records: tuple[TrialRecord, ...]
    pairs: tuple[Pair, ...]
    frontier: Frontier
    tradeoffs: tuple[NetworkTradeoff, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    consistencies: tuple[ConsistencyPanel, ...]
    effects: tuple[Effect, ...]
    boundary: Boundary
    growth: Growth
    importances: tuple[Importance, ...]


def find(run: Run) -> Findings:
    """Frontier, accuracy tradeoffs, best trials and the paper's Table 1.

    Raises:
        ResultsError: a run of `gcc-search train`, no finished trial, or a scored trial without its baseline.
    """
    records = tuple(trial.record for trial in run.trials)
    _check_searched(run)
    _check_finished(run.folder, records, run.problems)
    question, pairs = read_question(run.record), pair_with_baselines(run)
    frontier = find_frontier(pairs, question)
    chosen = choose_trials(pairs, question)
    images = _read_images(run, chosen)
    return Findings(
        run=run.record,
        counts=count_statuses(records),
        problems=(*run.problems, *_torn_files(run)),
        waiting=waiting_trials(run),
        records=records,
        pairs=pairs,
        frontier=frontier,
        tradeoffs=accuracy_tradeoffs(pairs, records),
        rows=best_trials(pairs, frontier),
        comparisons=compare_chosen(chosen, pairs, images),
        consistencies=consistency_panels(chosen, images),
        effects=find_effects(records, pairs),
        boundary=find_boundary(records),
        growth=find_growth(records, pairs, question, frontier),
        importances=find_importances(records, question),
    )


def _check_searched(run: Run) -> None:
    if "single" in run.record.space:
        raise ResultsError(
            f"{run.folder}: must be a search, with baselines to compare to, got one network of gcc-search train; "
            "use gcc-search --space FILE"
        )


def _check_finished(folder: Path, records: Sequence[TrialRecord], problems: Sequence[str]) -> None:
    if not any(record.status == "finished" for record in records):
        refused = f"; {len(problems)} refused, first: {problems[0]}" if problems else ""
        raise ResultsError(
            f"{folder}: must have a finished trial, got {say_counts(count_statuses(records))}{refused}; "
            "wait for the search, or start it again"
        )


def say_counts(counts: dict[str, int]) -> str:
    """`9 finished, 2 running`; `no trial` where there is none."""
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "no trial"


def _read_images(run: Run, chosen: Sequence[Pair]) -> dict[str, PairedImages | None]:
    trials = {trial.record.id: trial for trial in run.trials}
    baselines = {trial.record.id: trial for trial in run.baselines.values()}
    return {pair.trial.id: read_paired(trials[pair.trial.id], baselines[pair.baseline.id]) for pair in chosen}


def _torn_files(run: Run) -> list[str]:
    """Refused files of finished trials and baselines. Scores come from trial.json and are used all the same."""
    finished = [t for t in (*run.baselines.values(), *run.trials) if t.record.status == "finished"]
    return [problem for trial in finished for problem in find_damage(trial)]
