"""Who a trial is in its run, and what it was trained with; needs no torch."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gcc_search.complaints import explain_record
from gcc_search.errors import ResultsError
from gcc_search.plugins import versions_of
from gcc_search.results.reader import Trial
from gcc_search.results.schema import Role
from gcc_search.settings import TrialSettings

# `weights: start:KEY` names the network of baselines/KEY in the same run, so that a run directory can be moved.
START = "start:"


def start_key(weights: str) -> str | None:
    """KEY, where `weights` is start:KEY."""
    return weights.removeprefix(START) if weights.startswith(START) else None


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a trial is in its run. `baseline` is a folder name below baselines/, None for baselines themselves."""

    id: str
    role: Role = "trial"
    sampled: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None


def package_versions(networks: Iterable[str] = ()) -> dict[str, str]:
    """Versions of what decides the numbers of trials of these networks."""
    names = ("gcc-search", "torch", "torchvision", "kornia")
    ours = {"python": platform.python_version()} | {name: version(name) for name in names}
    return ours | versions_of(networks)


def settings_of(trial: Trial, *, data_root: Path | None = None, download: bool = False) -> TrialSettings:
    """What the trial was trained with; `data_root` replaces the folder that its images were in.

    Raises:
        ResultsError: settings that this version does not know.
    """
    try:
        settings = TrialSettings.model_validate(trial.record.settings)
    except ValidationError as error:
        told = explain_record(error, TrialSettings)
        raise ResultsError(f"{trial.folder / 'trial.json'}: settings: {told}") from None
    asked = {"root": data_root, "download": download or None}
    changes = {name: value for name, value in asked.items() if value is not None}
    return settings.model_copy(update={"data": settings.data.model_copy(update=changes)})
