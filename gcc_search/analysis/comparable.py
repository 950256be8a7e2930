"""A trial's settings as another's are compared to them: equal where the same was trained on the same images."""

from __future__ import annotations

import json
from typing import Any

from gcc_search.results.schema import CHANGE_NO_NUMBER, NOTED_LATER, TrialRecord


def comparable_settings(record: TrialRecord) -> dict[str, Any]:
    """The settings but for what says where things lie; a copy, whose sections are shared.

    `data` is the fingerprint of the images: their folder moves, and is another one on another machine. Weights that a
    search trained first, `start:KEY`, are `start`: the key is made of the seed and the image size, which are settings
    too, and of what all trials of a run share, and of runs that are read together (`several.SHARED`).
    """
    settings = record.settings | {"data": record.data_fingerprint, "explanation": explanation_of(record)}
    for name in CHANGE_NO_NUMBER:
        settings.pop(name, None)
    if str(settings.get("weights")).startswith("start:"):
        settings["weights"] = "start"
    return settings


def settings_but_seed(record: TrialRecord) -> str:
    """One text for all trials that differ in the seed alone: what they tell is not told independently."""
    settings = {name: value for name, value in comparable_settings(record).items() if name != "seed"}
    return json.dumps(settings, sort_keys=True)


def explanation_of(record: TrialRecord) -> dict[str, Any]:
    """The settings of the trial's explanation, those too that its record is older than."""
    explanation: dict[str, Any] = record.settings.get("explanation", {})
    return NOTED_LATER | explanation
