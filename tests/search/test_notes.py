"""What is said of a space before its search starts."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gcc_search.search.notes import notes
from gcc_search.search.readiness import SearchOptions, prepare_search
from tests.search.conftest import make_space

NO_GRADIENT = "note: p = 0 in the paper's form counts pixels and has no gradient: beta does nothing there"
AS_BASELINES = (
    "note: alpha and beta are 0 in every trial: each is trained as its baseline is, whatever else of the explanation "
    "is searched"
)

CROPPED = (
    "note: cross-entropy is on second views, too, which baselines crop to at least 0.08 of an image "
    "(transform_scale_min) and trials otherwise: what that does to accuracy is counted as the explanation's"
)


def notes_of(parameters: dict[str, object], **changes) -> list[str]:
    return notes(make_space(**({"parameters": parameters, "constraints": []} | changes)))


BETA = {"beta": {"value": 1}}
POINTS = {"method": "points", "run_cap": None}


@pytest.mark.parametrize(
    ("parameters", "changes"),
    [
        ({"p": {"values": [0, 1]}}, {"explanation": {"sparsity": "paper"}}),
        ({"p": {"values": [0, 1]}, "sparsity": {"values": ["searched", "paper"]}}, {}),
        ({"sparsity": {"values": ["searched", "paper"]}}, {"explanation": {"p": 0}}),
        ({"p": {"distribution": "int_uniform", "min": 0, "max": 2}}, {"explanation": {"sparsity": "paper"}}),
        ({"p": {"values": [0, 1]}}, {"explanation": {"sparsity": "paper"}, "points": [{"p": 0}], **POINTS}),
        # What is tried first is not all.
        ({"p": {"values": [0, 1]}}, {"explanation": {"sparsity": "paper"}, "points": [{"p": 1}]}),
        # Hardly ever drawn, and tried first.
        (
            {"p": {"distribution": "uniform", "min": 0, "max": 2}},
            {"explanation": {"sparsity": "paper"}, "points": [{"p": 0}]},
        ),
    ],
)
def test_p_0_in_the_papers_form_is_said_to_do_nothing(parameters, changes):
    assert notes_of(BETA | parameters, **changes) == [NO_GRADIENT]


@pytest.mark.parametrize(
    ("parameters", "changes"),
    [
        ({"p": {"values": [0, 1]}}, {}),
        # Hardly ever drawn.
        ({"p": {"distribution": "uniform", "min": 0, "max": 2}}, {"explanation": {"sparsity": "paper"}}),
        ({"sparsity": {"values": ["searched", "paper"]}}, {}),
        ({"p": {"values": [0, 1]}}, {"explanation": {"sparsity": "paper"}, "points": [{"p": 1}], **POINTS}),
    ],
)
def test_p_0_in_our_form_and_another_p_in_the_papers_are_as_they_should_be(parameters, changes):
    assert notes_of(BETA | parameters, **changes) == []


def test_a_search_in_which_nothing_is_weighed_is_said_to_repeat_its_baseline():
    assert notes_of({"p": {"values": [1, 2]}}) == [AS_BASELINES]
    assert notes_of({"p": {"values": [1, 2]}, "alpha": {"value": 0}}) == [AS_BASELINES]
    assert notes_of({"ce_on_views": {"values": ["first", "both"]}}) == [AS_BASELINES]
    assert notes_of({"transform_scale_min": {"values": [0.08, 0.5]}}) == [AS_BASELINES]


@pytest.mark.parametrize(
    "weighed",
    [
        {"alpha": {"values": [0, 1]}},
        {"beta": {"distribution": "uniform", "min": 0, "max": 1}},
        {"ce_on_views": {"value": "both"}, "transform_scale_min": {"values": [0.08, 0.5]}},
    ],
)
def test_a_search_in_which_anything_is_weighed_is_not(weighed):
    assert AS_BASELINES not in notes_of({"p": {"values": [1, 2]}} | weighed)


@pytest.mark.parametrize(
    ("views", "scale", "is_told"), [("both", 0.5, True), ("both", 0.08, False), ("first", 0.5, False)]
)
def test_views_that_are_trained_on_and_cropped_otherwise_than_the_baselines_are_told(views, scale, is_told):
    told = notes_of({"alpha": {"values": [0, 1]}}, explanation={"ce_on_views": views, "transform_scale_min": scale})
    assert told == [CROPPED] * is_told


@pytest.mark.parametrize(
    ("constraint", "points", "is_told"),
    [
        ("accuracy >= baseline - 30", 10, True),
        ("accuracy >= baseline - 30", 30, False),
        ("accuracy >= baseline - 10", 10, False),
        ("accuracy >= baseline - 100", 10, False),
        ("accuracy >= baseline + 1", 10, False),
        ("accuracy >= 40", 10, False),
        ("gini >= baseline - 30", 10, False),
    ],
)
def test_a_constraint_that_keeps_what_is_given_up_is_told(constraint, points, is_told):
    told = notes_of({"alpha": {"values": [0, 1]}}, constraints=[constraint], collapse={"points": points})
    expected = (
        f"note: {constraint} allows more than collapse.points, by which a trial is given up {points} points under its "
        "baseline; raise collapse.points to train it on"
    )
    assert told == [expected] * is_told


def test_a_cap_that_cuts_a_grid_is_told():
    grid = {"alpha": {"values": [0, 1, 2]}, "seed": {"values": [0, 1]}}
    changes = {"networks": ["convnet_small", "resnet18"], "method": "grid"}
    told = "note: run_cap lets 5 of the 12 trials run that method: grid lists"
    assert notes_of(grid, run_cap=5, **changes) == [told]
    assert notes_of(grid, run_cap=12, **changes) == []


def test_a_cap_that_cuts_listed_points_is_told():
    points = {"method": "points", "points": [{"alpha": 1}, {"alpha": 2}, {"alpha": 0}]}
    told = "note: run_cap lets 2 of the 3 trials run that method: points lists"
    assert notes_of({"alpha": {"values": [0, 1, 2]}}, run_cap=2, **points) == [told]
    assert notes_of({"alpha": {"values": [0, 1, 2]}}, run_cap=3, **points) == []


def test_points_beside_a_grid_are_said_to_be_trained_twice():
    grid, points = {"alpha": {"values": [1, 2]}}, [{"alpha": 1}]
    told = "note: the grid holds what points lists, which is trained twice; leave points out"
    assert notes_of(grid, method="grid", run_cap=None, points=points) == [told]
    assert notes_of(grid, method="grid", run_cap=None) == []
    assert notes_of(grid, points=points) == []


def test_notes_are_said_before_a_search_starts(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    space = make_space(parameters={"p": {"value": 1}}, constraints=[])
    prepare_search(space, SearchOptions(out=tmp_path, gpus=0), console)
    assert console.file.getvalue() == f"{AS_BASELINES}\n"
