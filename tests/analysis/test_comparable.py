"""What makes two trials' settings the same."""

from __future__ import annotations

from dataclasses import replace

from gcc_search.analysis.comparable import comparable_settings
from gcc_search.results.schema import NOTED_LATER
from tests.search.test_study import make_record


def test_what_changes_no_number_keeps_no_trials_apart():
    settings = {"seed": 0, "weights": "none", "data": {"root": "/here"}}
    old = replace(make_record(), settings=settings)
    new = replace(make_record(), settings=settings | {"activation_checkpointing": True, "data": {"root": "/there"}})
    assert comparable_settings(old) == comparable_settings(new)
    assert comparable_settings(old) != comparable_settings(replace(old, settings=settings | {"seed": 1}))
    assert comparable_settings(old) != comparable_settings(replace(old, data_fingerprint="others"))
    assert new.settings["activation_checkpointing"]


def test_an_older_record_is_of_what_was_not_noted_then():
    settings = {"seed": 0, "weights": "none", "explanation": {"alpha": 1.0}}
    old, new, other = (
        replace(make_record(), settings=settings | {"explanation": {"alpha": 1.0} | later})
        for later in ({}, NOTED_LATER, {"photometric": 0.5})
    )
    assert comparable_settings(old) == comparable_settings(new) != comparable_settings(other)
    assert old.settings == settings
