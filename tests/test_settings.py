"""Settings: frozen, strict about keys and numbers, and the same after a journey through JSON."""

import pytest
from pydantic import ValidationError

from gcc_search.settings import (
    LARGEST_WHOLE,
    Collapse,
    DataSettings,
    EvaluationSettings,
    Explanation,
    Recipe,
    Settings,
    TrialSettings,
)

MODELS = (DataSettings, Recipe, Explanation, EvaluationSettings, TrialSettings)


def all_fields():
    return [(model, name) for model in MODELS for name in model.model_fields]


def is_number(model: type[Settings], name: str) -> bool:
    return model.model_fields[name].annotation in (int, float)


NUMBERS = [field for field in all_fields() if is_number(*field)]


def test_the_probe_finds_the_numbers():
    assert {(Explanation, "alpha"), (Recipe, "batch_size"), (DataSettings, "num_images")} <= set(NUMBERS)


@pytest.mark.parametrize("model", MODELS)
def test_settings_do_not_change_once_they_are_checked(model, tiny_trial):
    settings = tiny_trial if model is TrialSettings else model(**({"name": "shapes"} if model is DataSettings else {}))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, next(iter(model.model_fields)), None)


@pytest.mark.parametrize("model", MODELS)
def test_a_key_that_does_not_exist_is_refused(model):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        model.model_validate({"lerning_rate": 1})


@pytest.mark.parametrize(("model", "name"), NUMBERS)
@pytest.mark.parametrize("value", ["1", "1e-6", True, False, None, float("nan"), float("inf")])
def test_a_number_is_a_number(model, name, value):
    with pytest.raises(ValidationError) as caught:
        model.model_validate({name: value})
    assert (name,) in [item["loc"] for item in caught.value.errors()]


@pytest.mark.parametrize(
    ("model", "name", "inside", "outside"),
    [
        (DataSettings, "test_fraction", (0.001, 0.999), (0, 1)),
        (DataSettings, "split_seed", (-LARGEST_WHOLE, LARGEST_WHOLE), (-LARGEST_WHOLE - 1, LARGEST_WHOLE + 1)),
        (DataSettings, "num_images", (1, 1_000_000), (0, 1_000_001)),
        (Recipe, "epochs", (1,), (0,)),
        (Recipe, "batch_size", (2,), (1,)),
        (Recipe, "momentum", (0, 0.999), (-0.1, 1)),
        (Recipe, "lr_gamma", (0.001, 1), (0, 1.001)),
        (Recipe, "image_size", (32, 1024), (31, 1025)),
        (Explanation, "p", (0, 4), (-0.1, 4.1)),
        (Explanation, "photometric", (0, 1), (-0.1, 1.1)),
        (EvaluationSettings, "insertion_images", (0,), (-1,)),
        (EvaluationSettings, "batch_size", (1,), (0,)),
        (Collapse, "points", (0.001,), (0,)),
    ],
)
def test_a_number_may_be_as_large_and_as_small_as_its_ends(model, name, inside, outside):
    needed = {"name": "shapes"} if model is DataSettings else {}
    assert [getattr(model.model_validate(needed | {name: value}), name) for value in inside] == [*inside]
    for value in outside:
        with pytest.raises(ValidationError):
            model.model_validate(needed | {name: value})


def test_whole_numbers_may_be_written_with_an_exponent():
    assert DataSettings(name="shapes", num_images=2e3).num_images == 2000


def test_the_default_explanation_is_the_baseline():
    assert (Explanation().alpha, Explanation().beta) == (0, 0)


def test_equal_settings_are_one_key_of_a_dictionary(tiny_trial):
    again = TrialSettings.model_validate(tiny_trial.model_dump())
    assert len({tiny_trial, again}) == 1


def test_settings_survive_json(tiny_trial):
    settings = tiny_trial.model_copy(
        update={"data": DataSettings(name="imagefolder", root="/data", classes=["a", "b"])}
    )
    assert TrialSettings.model_validate_json(settings.model_dump_json()) == settings
    assert TrialSettings.model_validate(settings.model_dump(mode="json")) == settings
