"""The importances of a run as a table per network: metrics by parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gcc_search.analysis.comparable import settings_but_seed
from gcc_search.analysis.importance import FEWEST, Importance
from gcc_search.results.schema import TrialRecord


@dataclass(frozen=True, kw_only=True)
class ImportancePanel:
    """A network.

    Args:
        num_finished: its finished trials. num_settings: theirs; fewer where some differ in the seed alone.
        metrics, parameters: names of rows and columns: those of which something can be said.
        cells: row by row; None where a parameter or metric did not vary, no choice was made twice, or too few settings
            are known.
        missing: why the panel is empty; empty where it is not.
    """

    network: str
    num_finished: int
    num_settings: int
    metrics: tuple[str, ...]
    parameters: tuple[str, ...]
    cells: tuple[tuple[Importance | None, ...], ...]
    missing: str


def importance_panels(records: Sequence[TrialRecord], importances: Sequence[Importance]) -> tuple[ImportancePanel, ...]:
    """A panel per network of `records`, trials of any status, in alphabetical order."""
    return tuple(
        _panel(
            network,
            [record for record in records if record.network == network and record.status == "finished"],
            [item for item in importances if item.network == network],
        )
        for network in sorted({record.network for record in records})
    )


def _panel(network: str, finished: Sequence[TrialRecord], importances: Sequence[Importance]) -> ImportancePanel:
    metrics = tuple(dict.fromkeys(item.metric for item in importances))
    found = {(item.metric, item.parameter): item for item in importances}
    parameters = tuple(dict.fromkeys(item.parameter for item in importances))
    num_settings = len({settings_but_seed(record) for record in finished})
    return ImportancePanel(
        network=network,
        num_finished=len(finished),
        num_settings=num_settings,
        metrics=metrics,
        parameters=parameters,
        cells=tuple(tuple(found.get((metric, name)) for name in parameters) for metric in metrics),
        missing=_missing(len(finished), num_settings) if not importances else "",
    )


def _missing(num_finished: int, num_settings: int) -> str:
    if num_finished < FEWEST:
        return f"{num_finished} finished trials: nothing can be said with fewer than {FEWEST}"
    if num_settings < FEWEST:
        settings = "1 setting" if num_settings == 1 else f"{num_settings} settings"
        return f"{settings} under several seeds: nothing can be said with fewer than {FEWEST}"
    return "nothing can be said: no parameter or no metric takes two values, or no choice was made twice"
