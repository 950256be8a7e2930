"""Which networks a trial needs, and by which names they are found again."""

from __future__ import annotations

from gcc_search.search.jobs import JobMaker
from tests.search.conftest import make_space

FINGERPRINTS = {32: "made-up"}


def jobs_of(**space):
    return JobMaker(space=make_space(**space), fingerprints=FINGERPRINTS).jobs_of("convnet_small", "t", {"alpha": 1.0})


def test_a_baseline_serves_whether_activations_are_kept_or_computed_again():
    kept, recomputed = jobs_of(), jobs_of(resources={"activation_checkpointing": True})
    assert [job.settings.activation_checkpointing for job in kept] == [False] * 3
    assert [job.settings.activation_checkpointing for job in recomputed] == [True] * 3
    assert [job.id for job in recomputed] == [job.id for job in kept]


def test_another_recipe_is_another_baseline_and_the_same_start():
    start, baseline, _ = jobs_of()
    other_start, other_baseline, _ = jobs_of(recipe={"epochs": 3, "lr": 0.01, "image_size": 32})
    assert other_start.id == start.id
    assert other_baseline.id != baseline.id
