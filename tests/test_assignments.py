"""`train --set NAME=VALUE`: settings by their names in a space file."""

from __future__ import annotations

import pytest

from gcc_search.cli.assignments import assign
from gcc_search.cli.train import _OPTIONS
from gcc_search.errors import SpaceError
from gcc_search.settings import TrialSettings
from gcc_search.space import check_settings


def settings_with(*assignments):
    content = {"network": "resnet18", "weights": "none", "data": {"name": "shapes"}, "explanation": {"alpha": 1.0}}
    assign(content, assignments, options=_OPTIONS)
    return check_settings(content)


def test_names_stand_where_a_space_file_has_them():
    settings = settings_with(
        *("sparsity=paper", "cam_class=own", "momentum=0.5", "weight_decay=1e-6", "lr_step_epochs=3"),
        *("data.split_seed=7", "evaluation.seed=2", "collapse.min_epochs=4"),
    )
    assert (settings.explanation.sparsity, settings.explanation.cam_class) == ("paper", "own")
    assert settings.explanation.alpha == 1.0
    recipe = settings.recipe
    assert (recipe.momentum, recipe.weight_decay, recipe.lr_step_epochs) == (0.5, 1e-6, 3)
    assert (settings.data.split_seed, settings.evaluation.seed, settings.collapse.min_epochs) == (7, 2, 4)


def test_every_setting_can_be_given_and_each_option_says_one():
    def names(model, prefix=""):
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from names(field.annotation, f"{name}.")
            else:
                yield prefix + name

    known = set(names(TrialSettings))
    assert known > set(_OPTIONS)
    for name in known - set(_OPTIONS):
        section, _, last = name.rpartition(".")
        value = TrialSettings.model_fields[section].annotation.model_fields[last].default
        if value is not None:
            assign({section: {}}, [f"{name}={str(value).lower()}"], options=_OPTIONS)


@pytest.mark.parametrize(
    ("assignments", "told"),
    [
        (["sparsity"], "--set: must read NAME=VALUE, as in --set sparsity=paper, got 'sparsity'"),
        (["=1"], "--set: must read NAME=VALUE, as in --set sparsity=paper, got '=1'"),
        (["alpha=1"], "--set: alpha must be given by its own option, --alpha"),
        (["data.root=x"], "--set: data.root must be given by its own option, --data-root"),
        (
            ["detach=head", "explanation.detach=none"],
            "--set: explanation.detach must be given once, got it again; leave",
        ),
        (["detach="], "--set detach: must be a value, got ''"),
        (["detach=[a"], "--set detach: line 1: must be YAML, got: "),
        (["detach=heads"], "explanation.detach: must be "),
        (["momentun=1"], "--set: momentun must be a setting, or SECTION.NAME with one of data, recipe, explanation, "),
        (["explanation.sparsty=paper"], "explanation.sparsty: unknown key; did you mean sparsity?"),
        (["momentum=1"], "recipe.momentum: must be below 1, got 1"),
        (["network.x=1"], "--set: network.x must be a setting, or SECTION.NAME with one of "),
        (["a.b.c=1"], "--set: a.b.c must be a setting, or SECTION.NAME with one of "),
    ],
)
def test_what_is_no_setting_is_one_line(assignments, told):
    with pytest.raises(SpaceError) as caught:
        settings_with(*assignments)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
