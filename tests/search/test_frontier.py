"""The frontier that a search tells of, on the screen and as JSON, is the one that is drawn and exported."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gcc_search.analysis.feasibility import Question
from gcc_search.analysis.frontier import find_frontier as find_analysed
from gcc_search.analysis.pairing import Pair
from gcc_search.objectives import ranked_by
from gcc_search.search.frontier import find_frontier
from gcc_search.search.jobs import JobMaker
from gcc_search.search.judging import Outcome
from gcc_search.search.study import violations
from tests.search.conftest import make_space
from tests.search.test_study import make_record

CONSTRAINTS = ["accuracy >= baseline - 1", "gini >= 0.2"]
BASELINE = make_record("base")


def made_up_outcome(space, number: int, chance: random.Random) -> Outcome:
    """Of few different values, so that some are equal, and some of them unknown."""
    network = chance.choice(space.networks)
    maker = JobMaker(space=space, fingerprints={32: "made-up"})
    *_, job = maker.jobs_of(network, f"{network}-{number:04d}", {"alpha": 1.0, "beta": 0.5})
    values = {
        name: None if chance.random() < 0.03 else chance.randrange(8) / 8
        for name in ("corrected_consistency", "gini", "mass_half")
    }
    status = chance.choice(["finished", "finished", "finished", "collapsed"])
    accuracy = 78.0 + chance.randrange(6) / 2
    record = replace(make_record(job.id, status, accuracy_points=accuracy, **values), network=network)
    holds = all(value <= 0 for value in violations(space, record, BASELINE).values())
    return Outcome(job=job, record=record, baseline=BASELINE, feasible=status == "finished" and holds)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("asked", [["corrected_consistency", "gini"], ["gini"], ["mass_half", "accuracy"]])
def test_the_search_names_the_frontier_that_the_analysis_does(seed, asked):
    chance = random.Random(seed)
    metrics = [{"name": name} for name in asked]
    space = make_space(networks=["convnet_small", "resnet18"], metrics=metrics, constraints=CONSTRAINTS)
    outcomes = [made_up_outcome(space, number, chance) for number in range(60)]
    question = Question(metrics=ranked_by(asked), constraints=space.parsed_constraints())
    analysed = find_analysed([Pair(trial=o.record, baseline=BASELINE) for o in outcomes], question)
    on_frontier = {point.id for point in analysed.points if point.on_frontier}
    assert {outcome.job.id for outcome in find_frontier(space, outcomes)} == on_frontier
    assert 1 < len(on_frontier) < 60


def test_of_a_search_without_feasible_trials_nothing_is_on_the_frontier():
    assert find_frontier(make_space(), []) == []
