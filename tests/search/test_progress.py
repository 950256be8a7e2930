"""What the screen says of many trials: counted as they end, and as many rows as a terminal holds."""

from __future__ import annotations

import io
import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from gcc_search.search.frontier import find_frontier
from gcc_search.search.jobs import JobMaker
from gcc_search.search.judging import Outcome
from gcc_search.search.progress import RUNNING_ROWS, SearchScreen
from gcc_search.search.tally import Tally
from tests.search.conftest import make_space
from tests.search.test_study import make_record

SPACE = make_space(networks=["convnet_small", "resnet18"])
MAKER = JobMaker(space=SPACE, fingerprints={32: "made-up"})


def make_outcome(number: int, chance: random.Random) -> Outcome:
    network = chance.choice(SPACE.networks)
    *_, job = MAKER.jobs_of(network, f"{network}-{number:04d}", {"alpha": 1.0, "beta": 0.5})
    status = chance.choice(["finished", "finished", "finished", "stopped", "failed"])
    # Few different values: some trials are equal.
    values = {"corrected_consistency": chance.randrange(20) / 20, "gini": chance.randrange(20) / 20}
    record = make_record(job.id, status, **values)
    feasible = status == "finished" and chance.random() < 0.8
    return Outcome(job=job, record=record, baseline=None, feasible=feasible)


@pytest.fixture
def outcomes() -> list[Outcome]:
    chance = random.Random(0)
    return [make_outcome(number, chance) for number in range(200)]


def test_a_tally_that_grows_is_what_counting_all_anew_gives(outcomes):
    tally = Tally(SPACE)
    for begin in range(0, len(outcomes), 3):
        tally.add(outcomes[begin : begin + 3])
        so_far = outcomes[: begin + 3]
        assert tally.frontier == find_frontier(SPACE, so_far)
        assert tally.statuses == Counter(outcome.record.status for outcome in so_far)
        assert tally.num_feasible == sum(outcome.feasible for outcome in so_far)
    assert tally.num_ended == 200
    assert tally.finished_seconds == tally.statuses["finished"]


def test_of_a_thousand_running_trials_as_many_are_shown_as_fit(outcomes):
    queue = SimpleNamespace(outcomes=outcomes, num_ended=200, num_trials=2000)
    console = Console(file=io.StringIO(), width=160, height=200)
    screen = SearchScreen(SPACE, queue, console, slots=1000)
    for number in range(1000):
        *_, job = MAKER.jobs_of("resnet18", f"resnet18-{number:04d}", {"alpha": 1.0, "beta": 0.5})
        screen.on_trial_start(0, [], SimpleNamespace(trial_id=str(number), config=job.to_config()))
    console.file.truncate(0)
    console.print(screen.render())
    drawn = console.file.getvalue()
    assert drawn.count("alpha 1 beta 0.5") == RUNNING_ROWS + len(find_frontier(SPACE, outcomes)[:8])
    assert f"and {1000 - RUNNING_ROWS} more" in drawn
    assert "200/2000 trials" in drawn


def test_what_is_left_is_what_has_not_begun_and_the_rest_of_what_runs(outcomes):
    ended = [outcome for outcome in outcomes if outcome.record.status == "finished"][:10]
    queue = SimpleNamespace(outcomes=ended, num_ended=10, num_trials=20)
    screen = SearchScreen(SPACE, queue, Console(file=io.StringIO()), slots=2)
    screen.render()
    # Each took a second.
    assert screen.seconds_left() == 10 / 2
    *_, job = MAKER.jobs_of("resnet18", "resnet18-0100", {"alpha": 1.0, "beta": 0.5})
    screen.on_trial_start(0, [], SimpleNamespace(trial_id="1", config=job.to_config()))
    (running,) = screen._running.values()
    running.row["epoch"] = job.settings.recipe.epochs / 2
    assert screen.seconds_left() == (10 - running.share) / 2
    assert 0 < running.share <= 1


def test_the_best_in_a_metric_that_is_to_be_small_comes_first(outcomes):
    space = make_space(networks=["convnet_small", "resnet18"], metrics=[{"name": "mass_half"}, {"name": "gini"}])
    sparse = [
        replace(outcome, record=make_record(outcome.job.id, mass_half=number / 4, gini=number / 4), feasible=True)
        for number, outcome in enumerate(outcomes[:3])
    ]
    found = [outcome.record.validation["mass_half"] for outcome in find_frontier(space, sparse)]
    assert found == sorted(found)
    assert len(found) > 1
