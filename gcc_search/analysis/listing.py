"""trials.csv: every trial of a run, whatever became of it, and what each of its columns means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gcc_search.analysis.frontier import Frontier
from gcc_search.analysis.pairing import Pair
from gcc_search.results.schema import EPOCH_COLUMNS, IMAGE_COLUMNS, Column, TrialRecord

# Means over the test split that are no column of images.parquet.
TEST_ONLY = ("accuracy_points", "corrected_consistency", "degenerate_fraction")
# The mean of "degenerate" is named degenerate_fraction.
NOT_AVERAGED = ("index", "name", "label", "predicted", "degenerate")


def list_trials(records: Sequence[TrialRecord], pairs: Sequence[Pair], frontier: Frontier) -> list[dict[str, Any]]:
    """One flat row per record; every row has the same keys in the same order."""
    feasible = {point.id: point.feasible for point in frontier.points}
    members = {point.id: point.on_frontier for point in frontier.points}
    tradeoffs = {pair.trial.id: pair.tradeoff_points for pair in pairs}
    sampled = sorted({name for record in records for name in record.sampled})
    return [
        _identity(record)
        | {f"sampled.{name}": record.sampled.get(name) for name in sampled}
        | {
            "feasible": feasible.get(record.id, False),
            "on_frontier": members.get(record.id, False),
            "tradeoff_points": tradeoffs.get(record.id),
        }
        | _measures(record)
        for record in records
    ]


def list_baselines(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """One flat row per baseline that a scored trial is compared to."""
    baselines = {pair.baseline.id: pair.baseline for pair in pairs}
    return [_identity(record) | _measures(record) for _, record in sorted(baselines.items())]


def _measures(record: TrialRecord) -> dict[str, Any]:
    validation, test = record.validation or {}, record.test or {}
    return {f"validation.{name}": validation.get(name) for name in _epoch_names()} | {
        f"test.{name}": test.get(name) for name in _test_names()
    }


def _identity(record: TrialRecord) -> dict[str, Any]:
    explanation = record.settings["explanation"]
    return {
        "trial": record.id,
        "role": record.role,
        "status": record.status,
        "reason": record.reason,
        "network": record.network,
        "data": record.settings["data"]["name"],
        "data_fingerprint": record.data_fingerprint,
        "seed": record.settings["seed"],
        "baseline": record.baseline,
        **{name: explanation[name] for name in ("alpha", "beta", "p", "distance")},
        "epochs_done": record.epochs_done,
        "device_seconds": record.device_seconds,
    }


def _epoch_names() -> list[str]:
    return [column.name for column in EPOCH_COLUMNS]


def _test_names() -> list[str]:
    return [*TEST_ONLY, *(column.name for column in IMAGE_COLUMNS if column.name not in NOT_AVERAGED)]


def explain_columns() -> list[dict[str, str]]:
    """What the measured columns of trials.csv are: unit, better direction, meaning, what an empty cell says."""
    epochs = {column.name: column for column in EPOCH_COLUMNS}
    tested = [epochs[name] for name in TEST_ONLY] + [c for c in IMAGE_COLUMNS if c.name not in NOT_AVERAGED]
    return [
        *(_explain("validation", "last epoch", column) for column in EPOCH_COLUMNS),
        *(_explain("test", "mean over the test split", column) for column in tested),
    ]


def _explain(prefix: str, over: str, column: Column) -> dict[str, str]:
    meaning = column.meaning.replace("validation split", f"{prefix} split")
    return {
        "column": f"{prefix}.{column.name}",
        "over": over,
        "unit": column.unit,
        "better": column.direction,
        "meaning": meaning,
        "empty_means": f"{prefix} split not scored" + ("" if column.missing == "never" else f", or {column.missing}"),
    }
