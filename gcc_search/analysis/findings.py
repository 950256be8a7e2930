"""Everything that is computed from a run directory, as plain values; writes and draws nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from gcc_search.analysis.against_paper import AgainstPaper, compare_with_paper
from gcc_search.analysis.bands import Bands, find_bands
from gcc_search.analysis.best import Row, best_trials
from gcc_search.analysis.boundary import DECIDED, Boundary, find_boundary
from gcc_search.analysis.comparison import Comparison, choose_trials, compare_chosen
from gcc_search.analysis.distribution import ConsistencyPanel, consistency_panels
from gcc_search.analysis.effects import Effect, find_effects
from gcc_search.analysis.feasibility import read_question
from gcc_search.analysis.frontier import Frontier, find_frontier
from gcc_search.analysis.gallery import Gallery, read_gallery
from gcc_search.analysis.growth import Growth, find_growth
from gcc_search.analysis.heatmap_grid import GridRow, find_heatmap_grid
from gcc_search.analysis.importance import Importance, find_importances
from gcc_search.analysis.importance_panels import ImportancePanel, importance_panels
from gcc_search.analysis.origins import Origin, find_origins
from gcc_search.analysis.paired_images import PairedImages, read_paired
from gcc_search.analysis.pairing import Pair, pair_with_baselines, waiting_trials
from gcc_search.analysis.stages import Tell, untold
from gcc_search.analysis.tradeoff import NetworkTradeoff, accuracy_tradeoffs, count_statuses
from gcc_search.atomic import as_told
from gcc_search.errors import ResultsError
from gcc_search.passwords import without_password_of_any
from gcc_search.results.reader import READERS, Run, Trial
from gcc_search.results.schema import RunRecord, TrialRecord


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a run says.

    Args:
        counts: trials by status, whether scored or not.
        problems: one line per file that was refused.
        waiting: ids of trials left out because their baseline has not finished.
        records: trials of any status. pairs: those that are scored, with their baselines.
        paper: the published numbers beside the run's; None unless asked for.
        origins: where each trial and baseline lies, and how to train it again, by id.
    """

    run: RunRecord
    counts: dict[str, int]
    problems: tuple[str, ...]
    waiting: tuple[str, ...]
    records: tuple[TrialRecord, ...]
    pairs: tuple[Pair, ...]
    origins: dict[str, Origin]
    frontier: Frontier
    tradeoffs: tuple[NetworkTradeoff, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    consistencies: tuple[ConsistencyPanel, ...]
    effects: tuple[Effect, ...]
    boundary: Boundary
    growth: Growth
    bands: Bands
    importances: tuple[Importance, ...]
    gallery: Gallery
    heatmap_grid: tuple[GridRow, ...]
    importance_panels: tuple[ImportancePanel, ...]
    paper: AgainstPaper | None


def find(run: Run, tell: Tell = untold, *, with_paper: bool = False) -> Findings:
    """Frontier, accuracy tradeoffs, best trials and the paper's Table 1; `with_paper`: beside the paper's numbers.

    Raises:
        ResultsError: a run of `gcc-search train`, no trial that trained to its end or failed to, or a scored trial
            without its baseline.
    """
    records = tuple(trial.record for trial in run.trials)
    check_searched(run)
    _check_drawn(run.folder, records, run.problems)
    question, pairs = read_question(run.record), pair_with_baselines(run)
    frontier = find_frontier(pairs, question)
    chosen = choose_trials(pairs, question)
    torn = _torn_tables(run, chosen, tell)
    tell("computing", 0, 0)
    images = _read_images(run, chosen)
    importances = find_importances(records, question)
    comparisons, effects = compare_chosen(chosen, pairs, records, images), find_effects(records, pairs)
    gallery = read_gallery(run, _by_interest(pairs, frontier, chosen, effects))
    return Findings(
        # Of runs that kept the password of --storage.
        run=replace(run.record, command=without_password_of_any(run.record.command)),
        counts=count_statuses(records),
        problems=tuple(dict.fromkeys(map(as_told, (*run.problems, *torn, *gallery.refused)))),
        waiting=waiting_trials(run),
        records=records,
        pairs=pairs,
        origins=find_origins(run),
        frontier=frontier,
        tradeoffs=accuracy_tradeoffs(pairs, records),
        rows=best_trials(pairs, frontier),
        comparisons=comparisons,
        consistencies=consistency_panels(chosen, images),
        effects=effects,
        boundary=find_boundary(records, pairs),
        growth=find_growth(records, pairs, question, frontier),
        bands=find_bands(records, pairs, question, run.record.space),
        importances=importances,
        importance_panels=importance_panels(records, importances),
        paper=compare_with_paper(records, comparisons, effects, space=run.record.space) if with_paper else None,
        gallery=gallery,
        heatmap_grid=find_heatmap_grid(effects, pairs, gallery),
    )


def _by_interest(
    pairs: Sequence[Pair], frontier: Frontier, chosen: Sequence[Pair], effects: Sequence[Effect]
) -> list[str]:
    """Ids of networks whose heatmaps a reader will ask for, first things first."""
    members = [point.id for point in frontier.points if point.on_frontier]
    scored = {pair.trial.id for pair in pairs}
    rows = [
        point.trial for effect in effects for line in effect.series for point in line.points if point.trial in scored
    ]
    baselines = [pair.baseline.id for pair in pairs]
    return [*baselines, *(pair.trial.id for pair in chosen), *members, *rows, *(pair.trial.id for pair in pairs)]


def check_searched(run: Run) -> None:
    """Raises ResultsError where `run` is one network of `gcc-search train`, with nothing to compare it to."""
    if "single" in run.record.space:
        raise ResultsError(
            f"{run.folder}: must be a search, with baselines to compare to, got one network of gcc-search train; "
            "use gcc-search --space FILE"
        )


def _check_drawn(folder: Path, records: Sequence[TrialRecord], problems: Sequence[str]) -> None:
    """A search whose networks all collapsed or diverged is drawn too: the figure of where training fails tells."""
    if not any(record.status in DECIDED for record in records):
        refused = f"; {len(problems)} refused, first: {problems[0]}" if problems else ""
        raise ResultsError(
            f"{folder}: must have a finished, collapsed or diverged trial, got "
            f"{say_counts(count_statuses(records))}{refused}; {say_way_out(records)}"
        )


def say_way_out(records: Sequence[TrialRecord]) -> str:
    """What helps where none of these trials can be used."""
    # One that finished waits for its baseline.
    if not records or any(record.status in ("running", "interrupted", "finished") for record in records):
        return "wait for the search, or go on with it: gcc-search resume RUN"
    failed = next((record for record in records if record.status == "failed" or record.would_fail_again), None)
    if failed is None:
        return "search with lower alpha, beta or lr, or with more epochs"
    told = f"{failed.id} {failed.status}: {failed.reason}"
    if failed.would_fail_again:
        return f"{told}; change its recipe, then start a new run"
    return f"{told}; where that is mended, remove its folder, then: gcc-search resume RUN"


def say_counts(counts: dict[str, int]) -> str:
    """`9 finished, 2 running`; `no trial` where there is none."""
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "no trial"


def _read_images(run: Run, chosen: Sequence[Pair]) -> dict[str, PairedImages | None]:
    trials = {trial.record.id: trial for trial in run.trials}
    baselines = {trial.record.id: trial for trial in run.baselines.values()}
    return {pair.trial.id: read_paired(trials[pair.trial.id], baselines[pair.baseline.id]) for pair in chosen}


def _torn_tables(run: Run, chosen: Sequence[Pair], tell: Tell) -> list[str]:
    """Refused tables of trials that ended and of baselines. Scores come from trial.json and are used all the same.

    The chosen ones', which are read, are verified to the last bit; the others' ends are looked at (`check_table`).
    """
    read = {record.id for pair in chosen for record in (pair.trial, pair.baseline)}
    ended = [trial for trial in (*run.baselines.values(), *run.trials) if trial.record.status != "running"]
    refused: list[str] = []
    with ThreadPoolExecutor(READERS) as pool:
        looked_at = pool.map(Trial.torn_tables, ended)
        for number, (trial, problems) in enumerate(zip(ended, looked_at, strict=True), start=1):
            tell("looking at tables", number, len(ended))
            # Both say the same of a file that is torn at its end.
            refused += dict.fromkeys([*problems, *(_changed_within(trial) if trial.record.id in read else [])])
    return refused


def _changed_within(trial: Trial) -> list[str]:
    try:
        # One column is enough: the seal is checked over the whole file.
        trial.images(["index"])
    except ResultsError as error:
        return [str(error)]
    return []
