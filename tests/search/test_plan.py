"""What a plan takes a trial of a space to be like."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcc_search.search.plan import usual_sample
from gcc_search.space import load_space
from tests.search.conftest import make_space

SPACES = Path(__file__).parents[2] / "search_spaces"

ALPHA = {"alpha": {"distribution": "log_uniform_values", "min": 0.01, "max": 10}}


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ({"p": {"distribution": "uniform", "min": 0.5, "max": 2}}, 1.25),
        ({"warmup_epochs": {"distribution": "int_uniform", "min": 0, "max": 5}}, 2),
        ({"alpha": {"values": [1, 0]}}, 1),
        ({"alpha": {"value": 0}}, 0),
        ({"epochs": {"values": [90, 30, 60]}}, 60),
        ({"distance": {"values": ["correlation", "ssim"]}}, "correlation"),
    ],
)
def test_the_middle_of_numbers_and_the_first_of_words(parameter, expected):
    (name,) = parameter
    sample = usual_sample(make_space(parameters=ALPHA | parameter))
    assert (sample[name], type(sample[name])) == (expected, type(expected))


def test_a_searched_term_is_in_the_loss_that_is_timed():
    space = make_space(parameters=ALPHA)
    explanation = space.settings("convnet_small", usual_sample(space)).explanation
    assert (explanation.alpha > 0, explanation.beta) == (True, 0)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_of_every_space_here_a_trial_can_be_timed(path):
    space = load_space(path)
    for network in space.networks:
        settings = space.settings(network, usual_sample(space))
        assert settings.explanation.alpha > 0 or settings.explanation.beta > 0
