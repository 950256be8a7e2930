"""Trials that were ahead of their baseline when they ended, judged as if that had been trained before them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gcc_search.atomic import fetch
from gcc_search.collapse import epochs_needed, first_verdict, sign_of_accuracy
from gcc_search.errors import ResultsError
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import EpochRow, TrialRecord
from gcc_search.search.baselines import BaselineRows
from gcc_search.search.jobs import Job

# What ended by its own rows. One that was stopped early was ranked by what there was then, and its worker may still
# have its folder.
JUDGED = ("finished", "collapsed", "diverged")


class LateJudge:
    """Reads the rows of such trials, and of their baselines, in the run directory `run`."""

    def __init__(self, run: Path) -> None:
        self._run, self._baselines = run, BaselineRows(run)

    def corrected(self, job: Job, record: TrialRecord, baseline: TrialRecord) -> TrialRecord | None:
        """The record as it would be, had the baseline ended before the trial began; None where that is no other one.

        The rule is the worker's (`collapse.Judge`), over all rows. Records that do not say how far the baseline had
        come, from before that was noted, are looked at as they were then: by their last accuracy alone.
        """
        if record.status not in JUDGED or baseline.status != "finished":
            return None
        epochs = job.settings.recipe.epochs
        if record.baseline_epochs is None:
            return _by_last_accuracy(record, baseline, limit=job.settings.collapse.points)
        if record.baseline_epochs >= epochs_needed(record.epochs_done, epochs=epochs):
            return None
        rows, reached = self._rows_of(job), self._reached(baseline)
        if rows is None or len(reached) < epochs:
            return _by_last_accuracy(record, baseline, limit=job.settings.collapse.points)
        found = first_verdict(rows, reached, job.settings.collapse, epochs=epochs)
        if found is None or found == (record.status, record.reason):
            return None
        status, reason = found
        return replace(record, status=status, reason=reason)

    def _reached(self, baseline: TrialRecord) -> list[float]:
        return [row["accuracy_points"] for row in self._baselines.rows_of(baseline.id)]

    def _rows_of(self, job: Job) -> list[EpochRow] | None:
        """None where they cannot be read: torn, which is told elsewhere."""
        folder = job.folder(self._run)
        try:
            fetch([folder / "epochs.parquet"])
            table = read_trial(folder).epochs()
        except ResultsError:
            return None
        return [EpochRow(**row) for row in table.to_pylist()] or None


def _by_last_accuracy(record: TrialRecord, baseline: TrialRecord, *, limit: float) -> TrialRecord | None:
    """The record of a trial that finished over `limit` points under its baseline; None for others."""
    if record.status != "finished":
        return None
    points, of_baseline = ((item.validation or {}).get("accuracy_points") for item in (record, baseline))
    sign = sign_of_accuracy(points, of_baseline, limit=limit)
    return replace(record, status="collapsed", reason=f"{sign} in epoch {record.epochs_done}") if sign else None
