import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gcc_search.analysis.feasibility import read_question
from gcc_search.analysis.frontier import Frontier, find_frontier, say_ranking
from gcc_search.analysis.pairing import pair_with_baselines
from gcc_search.errors import ResultsError
from gcc_search.pareto import non_dominated
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.writer import write_run, write_trial

BOTH_UP = (True, True)


def frontier_of(builder) -> Frontier:
    run = read_run(builder.folder)
    return find_frontier(pair_with_baselines(run), read_question(run.record))


def members(frontier: Frontier) -> list[str]:
    return [point.id for point in frontier.points if point.on_frontier]


def _reference_non_dominated(values, maximise):
    def gain(row):
        return [value if up else -value for value, up in zip(row, maximise, strict=True)]

    def beats(a, b):
        return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))

    known = [gain(row) for row in values if not any(np.isnan(row))]
    return [not any(np.isnan(row)) and not any(beats(rival, gain(row)) for rival in known) for row in values]


@pytest.mark.parametrize(
    ("values", "maximise", "expected"),
    [
        ([[1, 3], [2, 2], [3, 1], [1, 1], [2, 1]], BOTH_UP, [True, True, True, False, False]),
        ([[1, 3], [2, 2], [3, 1], [1, 1], [2, 1]], (False, False), [False, False, False, True, False]),
        ([[1, 3], [2, 2], [3, 1], [1, 1], [2, 1]], (True, False), [False, False, True, False, False]),
        ([[1, 1], [1, 1], [0, 1]], BOTH_UP, [True, True, False]),
        ([[np.nan, 9], [1, 1], [np.nan, np.nan]], BOTH_UP, [False, True, False]),
        ([[np.inf, 0], [0, 1], [-np.inf, 1]], BOTH_UP, [True, True, False]),
        ([[5], [7], [7]], (True,), [False, True, True]),
    ],
)
def test_the_frontier_of_a_small_case_is_the_one_found_by_hand(values, maximise, expected):
    assert non_dominated(np.array(values, dtype=float), maximise).tolist() == expected


def test_nothing_has_an_empty_frontier():
    assert non_dominated(np.empty((0, 3)), (True, True, False)).tolist() == []


def test_a_direction_is_needed_for_every_column():
    with pytest.raises(ValueError, match=r"got \(4, 3\)"):
        non_dominated(np.zeros((4, 3)), BOTH_UP)


@given(
    arrays(np.float64, st.tuples(st.integers(0, 12), st.just(3)), elements=st.sampled_from([0.0, 1.0, 2.0, np.nan])),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_the_frontier_agrees_with_comparing_every_pair(values, maximise):
    assert non_dominated(values, maximise).tolist() == _reference_non_dominated(values, maximise)


def test_the_frontier_does_not_depend_on_the_order_of_rows():
    values = np.random.default_rng(0).normal(size=(40, 3))
    order = np.random.default_rng(1).permutation(40)
    mask = non_dominated(values, (True, True, True))
    assert non_dominated(values[order], (True, True, True)).tolist() == mask[order].tolist()


def test_only_feasible_trials_are_on_the_frontier(mixed_run):
    frontier = frontier_of(mixed_run)
    assert members(frontier) == ["r1", "t1", "t2"]
    assert [point.id for point in frontier.points if point.feasible] == ["r1", "t1", "t2"]


def test_a_constraint_holds_up_to_and_including_its_bound(new_run):
    run = new_run(constraints=("accuracy >= baseline - 1.0",))
    run.baseline(accuracy=94.0)
    run.trial("at", accuracy=93.0)
    run.trial("below", accuracy=92.999)
    assert [(point.id, point.feasible) for point in frontier_of(run).points] == [("at", True), ("below", False)]


def test_what_was_not_measured_keeps_no_constraint(new_run):
    run = new_run(constraints=["box_mass >= 0.3"])
    run.baseline()
    run.trial("t1")
    record = read_trial(run.folder / "trials/t1").record
    write_trial(run.folder / "trials/t1", replace(record, validation=record.validation | {"box_mass": None}))
    assert members(frontier_of(run)) == []


def test_every_constraint_must_hold(new_run):
    run = new_run(constraints=("accuracy >= baseline - 1.0", "gini >= 0.4"))
    run.baseline()
    run.trial("broad", gini=0.39)
    run.trial("sparse", gini=0.41)
    assert members(frontier_of(run)) == ["sparse"]


def test_test_values_do_not_change_the_frontier(new_run):
    def frontier_with(test_accuracy):
        run = new_run()
        run.baseline()
        run.trial("a", accuracy=93.5, corrected=0.4, test_accuracy=test_accuracy)
        run.trial("b", accuracy=93.6, corrected=0.5, test_accuracy=1.0)
        return frontier_of(run)

    assert members(frontier_with(99.0)) == members(frontier_with(0.0)) == ["b"]
    assert frontier_with(99.0).points[0].test["accuracy_points"] == 99.0


def test_the_line_joins_what_none_beats_in_gini_and_corrected_consistency(mixed_run):
    mixed_run.trial("t8", accuracy=97.0, corrected=0.30, gini=0.30)
    frontier = frontier_of(mixed_run)
    assert "t8" in members(frontier)
    assert frontier.edge == ("t2", "t1")


def test_a_collapsed_trial_does_not_stretch_the_axes(mixed_run):
    frontier = frontier_of(mixed_run)
    assert frontier.outside == 1
    low, high = frontier.corrected_consistency_range
    assert (low, high) == pytest.approx((0.35 - 0.033, 0.90 + 0.033))


def test_figure_data_are_plain_values(mixed_run):
    point = frontier_of(mixed_run).points[1]
    measured = {"accuracy_points": 93.5, "corrected_consistency": 0.4, "gini": 0.5}
    assert (point.id, point.network, point.status, point.validation) == ("t1", "resnet18", "finished", measured)
    assert json.loads(json.dumps(point.test)) == measured


def rank_by(builder, metrics):
    write_run(builder.folder, replace(builder.record, space=builder.record.space | {"metrics": metrics}))
    return builder


def test_accuracy_consistency_and_sparsity_are_ranked_by_whatever_the_run_ranks_by(new_run):
    run = rank_by(new_run(), [{"name": "corrected_consistency"}])
    run.baseline()
    run.trial("accurate", accuracy=95.0, corrected=0.3, gini=0.3)
    run.trial("consistent", accuracy=94.0, corrected=0.5, gini=0.3)
    run.trial("sparse", accuracy=94.0, corrected=0.3, gini=0.5)
    run.trial("beaten", accuracy=94.0, corrected=0.3, gini=0.3)
    assert members(frontier_of(run)) == ["accurate", "consistent", "sparse"]
    assert frontier_of(run).metrics == ("accuracy", "corrected_consistency", "gini")


def test_a_further_metric_of_the_run_is_added_in_its_own_direction(new_run):
    run = rank_by(new_run(), [{"name": "mass_half", "goal": "minimize"}, {"name": "gini", "goal": "maximize"}])
    run.baseline()
    run.trial("small", mass_half=0.1, gini=0.2)
    run.trial("large", mass_half=0.9, gini=0.2)
    run.trial("sparse", mass_half=0.9, gini=0.3)
    frontier = frontier_of(run)
    assert members(frontier) == ["small", "sparse"]
    assert say_ranking(frontier) == "accuracy, corrected_consistency, gini, mass_half (lowest)"


@pytest.mark.parametrize(
    "space",
    [
        {},
        {"metrics": [{"name": "beauty"}], "constraints": []},
        {"metrics": [{"name": "beauty", "goal": "maximize"}], "constraints": []},
        {"metrics": [{"name": "x" * 5000}], "constraints": []},
    ],
)
def test_a_metric_that_is_unknown_is_named(new_run, space):
    run = new_run()
    run.record.space.clear()
    run.record.space.update(space)
    with pytest.raises(ResultsError, match=r"^demo: run\.json's space must have known metrics.{1,200}$"):
        read_question(run.record)


def test_a_constraint_that_cannot_be_parsed_is_quoted(new_run):
    with pytest.raises(ResultsError, match='got "accuracy is good"'):
        read_question(new_run(constraints=("accuracy is good",)).record)
