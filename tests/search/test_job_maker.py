"""Which networks a trial needs, and by which names they are found again."""

from __future__ import annotations

import hashlib
import json

import pytest

from gcc_search import __version__
from gcc_search.results.schema import CHANGE_NO_NUMBER, NOTED_LATER
from gcc_search.search.jobs import JobMaker, baseline_combinations
from gcc_search.settings import Explanation
from tests.search.conftest import make_space

FINGERPRINTS = {32: "made-up"}


def jobs_of(sampled=None, **space):
    maker = JobMaker(space=make_space(**space), fingerprints=FINGERPRINTS)
    return maker.jobs_of("convnet_small", "t", {"alpha": 1.0} | (sampled or {}))


def test_a_baseline_serves_whether_activations_are_kept_or_computed_again():
    kept, recomputed = jobs_of(), jobs_of(resources={"activation_checkpointing": True})
    assert [job.settings.activation_checkpointing for job in kept] == [False] * 3
    assert [job.settings.activation_checkpointing for job in recomputed] == [True] * 3
    assert [job.id for job in recomputed] == [job.id for job in kept]


def test_other_weights_are_another_baseline(tmp_path):
    files = [tmp_path / name for name in ("one.pth", "other.pth")]
    for path in files:
        path.write_bytes(path.name.encode())
    one, other = (jobs_of(weights=str(path), start=None)[0] for path in files)
    assert one.id != other.id
    moved = files[0].rename(tmp_path / "moved.pth")
    assert jobs_of(weights=str(moved), start=None)[0].id == one.id


def test_another_recipe_is_another_baseline_and_the_same_start():
    start, baseline, _ = jobs_of()
    other_start, other_baseline, _ = jobs_of(recipe={"epochs": 3, "lr": 0.01, "image_size": 32})
    assert other_start.id == start.id
    assert other_baseline.id != baseline.id


def test_cross_entropy_on_both_views_is_the_baselines_too():
    start, baseline, trial = jobs_of(explanation={"ce_on_views": "both", "detach": "head", "transform_scale_min": 0.5})
    assert trial.settings.explanation.ce_on_views == "both"
    assert baseline.settings.explanation == Explanation(ce_on_views="both")
    assert start.settings.explanation == Explanation()
    assert trial.identity.baseline == baseline.id != jobs_of()[1].id
    assert start.id == jobs_of()[0].id


def test_each_value_of_a_searched_ce_on_views_has_a_baseline():
    parameters = {"alpha": {"value": 1}, "ce_on_views": {"values": ["first", "both"]}}
    space = make_space(parameters=parameters)
    assert baseline_combinations(space) == 2
    baselines = {
        views: jobs_of({"ce_on_views": views}, parameters=parameters)[1]
        for views in parameters["ce_on_views"]["values"]
    }
    assert {views: job.settings.explanation.ce_on_views for views, job in baselines.items()} == {
        "first": "first",
        "both": "both",
    }
    assert baselines["first"].id == jobs_of()[1].id != baselines["both"].id


@pytest.mark.parametrize(
    ("views", "shares", "expected"),
    [(["first"], [0, 0.5], 1), (["both"], [0, 0.5], 2), (["first", "both"], [0, 0.5], 3), (["both"], [0.5], 1)],
)
def test_each_photometric_baseline_is_counted_once(views, shares, expected):
    parameters = {"alpha": {"value": 1}, "ce_on_views": {"values": views}, "photometric": {"values": shares}}
    space = make_space(parameters=parameters | {"seed": {"values": [0, 1]}})
    assert baseline_combinations(space) == 2 * expected
    baselines = {
        jobs_of({"ce_on_views": view, "photometric": share}, parameters=parameters)[1].id
        for view in views
        for share in shares
    }
    assert len(baselines) == expected


def test_a_baseline_keeps_the_name_that_it_had_before_there_were_more_settings():
    settings = jobs_of()[1].settings
    kept = settings.model_dump(mode="json", exclude={*CHANGE_NO_NUMBER, "explanation"})
    explanation = {name: value for name, value in settings.explanation if name not in NOTED_LATER}
    decisive = kept | {"explanation": explanation, "data": "made-up", "package": __version__}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    assert jobs_of()[1].id == f"convnet_small-{digest[:12]}"


def test_what_older_records_lack_was_what_it_is_by_default():
    defaults = dict(Explanation())
    assert {name: defaults[name] for name in NOTED_LATER} == NOTED_LATER


def test_the_baseline_of_other_trials_keeps_its_name():
    others = ({"distance": "correlation"}, {"transform_scale_min": 0.5, "detach": "second-view"}, {"photometric": 0.5})
    for explanation in ({}, *others):
        baseline = jobs_of(explanation=explanation)[1]
        assert baseline.settings.explanation == Explanation()
        assert baseline.id == jobs_of()[1].id
