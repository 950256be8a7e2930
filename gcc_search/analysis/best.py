"""The best feasible trials as plain rows, each network's baseline on top.

Ranked by corrected consistency C* on the validation split; what the test split says stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gcc_search.analysis.comparable import explanation_of
from gcc_search.analysis.frontier import Frontier
from gcc_search.analysis.pairing import Pair
from gcc_search.results.schema import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. Baselines have no rank and no tradeoff; None is "not measured" everywhere.

    Args:
        sampled: what the sampler chose beyond network, alpha, beta and p, by parameter name.
        own: all that a space file may search beyond these, sampled or not; of a baseline, the seed and the recipe.
        validation_corrected_consistency: C* on the validation split, what rows are ranked by.
        accuracy_points: top-1 on the test split, 0 to 100, as are all columns after it: test split.
        tradeoff_points: accuracy lost against the baseline; negative is a gain.
        degenerate_fraction: share of constant maps.
        iauc: insertion AUC. box_mass: share of the map on the object.
    """

    rank: int | None
    trial: str
    network: str
    on_frontier: bool
    alpha: float
    beta: float
    p: float
    sampled: dict[str, Any]
    own: dict[str, Any]
    validation_corrected_consistency: float | None
    accuracy_points: float | None
    tradeoff_points: float | None
    consistency: float | None
    corrected_consistency: float | None
    degenerate_fraction: float | None
    gini: float | None
    iauc: float | None
    box_mass: float | None


def best_trials(pairs: Sequence[Pair], frontier: Frontier) -> tuple[Row, ...]:
    """A row per baseline, then every feasible trial, best validation C* first (ties: by id)."""
    baselines = {pair.trial.baseline: pair.baseline for pair in pairs}
    ordered = sorted(baselines.values(), key=lambda record: (record.network, record.id))
    on_frontier = {point.id: point.on_frontier for point in frontier.points if point.feasible}
    feasible = sorted((pair for pair in pairs if pair.trial.id in on_frontier), key=_rank_key)
    return (
        *(_row(record, rank=None, on_frontier=False, tradeoff_points=None) for record in ordered),
        *(
            _row(pair.trial, rank=rank, on_frontier=on_frontier[pair.trial.id], tradeoff_points=pair.tradeoff_points)
            for rank, pair in enumerate(feasible, start=1)
        ),
    )


def _rank_key(pair: Pair) -> tuple[float, str]:
    value = pair.trial.validated("corrected_consistency")
    return (float("inf") if value is None else -value, pair.trial.id)


def _row(record: TrialRecord, *, rank: int | None, on_frontier: bool, tradeoff_points: float | None) -> Row:
    explanation, test = record.settings["explanation"], record.test or {}
    return Row(
        rank=rank,
        trial=record.id,
        network=record.network,
        on_frontier=on_frontier,
        alpha=explanation["alpha"],
        beta=explanation["beta"],
        p=explanation["p"],
        sampled=_without_columns(record.sampled),
        own=_without_columns(_own(record)),
        validation_corrected_consistency=record.validated("corrected_consistency"),
        accuracy_points=test.get("accuracy_points"),
        tradeoff_points=tradeoff_points,
        consistency=test.get("consistency"),
        corrected_consistency=test.get("corrected_consistency"),
        degenerate_fraction=test.get("degenerate_fraction"),
        gini=test.get("gini"),
        iauc=test.get("iauc"),
        box_mass=test.get("box_mass"),
    )


def _own(record: TrialRecord) -> dict[str, Any]:
    # A baseline's explanation is kept as well, and nothing was trained on it.
    explanation = explanation_of(record) if record.role == "trial" else {}
    return {"seed": record.settings["seed"], **record.settings.get("recipe", {}), **explanation}


def _without_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not _has_own_column(name)}


def _has_own_column(parameter: str) -> bool:
    return parameter.rpartition(".")[2] in ("network", "alpha", "beta", "p")
