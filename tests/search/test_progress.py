"""What the screen says of many trials: counted as they end, and as many rows as a terminal holds."""

from __future__ import annotations

import io
import random
from collections import Counter
from types import SimpleNamespace

import pytest
from rich.console import Console

from gcc_search.search.frontier import find_frontier
from gcc_search.search.job_queue import Outcome
from gcc_search.search.jobs import JobMaker
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
    queue = SimpleNamespace(outcomes=outcomes, num_trials=2000)
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
