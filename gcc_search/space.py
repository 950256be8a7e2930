"""A search-space file: YAML in the words of W&B sweeps -> `SearchSpace`, frozen. Knows neither Ray nor Optuna."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from gcc_search.baseline import shared_names
from gcc_search.complaints import explain_complaint, explain_error, shown
from gcc_search.errors import SpaceError
from gcc_search.objectives import Constraint, closest, parse_constraint
from gcc_search.settings import (
    NAME_PATTERN,
    Collapse,
    Count,
    DataSettings,
    EvaluationSettings,
    Explanation,
    NetworkName,
    Number,
    Positive,
    PositiveInt,
    Recipe,
    Settings,
    TrialSettings,
    Whole,
)
from gcc_search.vocabulary import (
    EarlyTerminate,
    MetricGoal,
    Parameter,
    Resources,
    SingleValue,
    Value,
    refuse_last_measures,
)
from gcc_search.yaml_file import one_line, read_yaml


def _constraint(text: str) -> str:
    refuse_last_measures(re.split(r"\W", text.strip(), maxsplit=1)[0])
    try:
        parse_constraint(text)
    except SpaceError as error:
        raise ValueError(str(error)) from None
    return text


def _weights(value: object) -> object:
    if not isinstance(value, str | dict):
        raise ValueError(f"must be text, or text for each network, got {shown(value)}")
    return value


# Trials are listed before they are run: more than anybody trains, and few enough to list.
MOST_TRIALS = 100_000

ConstraintText = Annotated[str, AfterValidator(_constraint)]


class SearchSpace(Settings):
    """A whole space file; see search_spaces/ for commented examples."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    networks: Annotated[tuple[NetworkName, ...], Field(min_length=1)]
    # The mapping first: pydantic tells of the branches in this order, and text never fails.
    weights: Annotated[dict[NetworkName, str] | str, BeforeValidator(_weights)] = "IMAGENET1K_V1"
    """As in `TrialSettings`, one for all or one for each network; `baseline`: start every trial from a network trained
    once by `start`."""
    data: DataSettings
    recipe: Recipe = Recipe()
    start: Recipe | None = None
    """The recipe of the network that `weights: baseline` starts from."""
    start_weights: str = "none"
    """What that network starts from itself: as in `TrialSettings`."""
    explanation: Explanation = Explanation()
    evaluation: EvaluationSettings = EvaluationSettings()
    collapse: Collapse = Collapse()
    """When a trial is given up before its last epoch, beside `early_terminate`."""
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    points: tuple[dict[str, SingleValue], ...] = ()
    """Settings to try first, one dict each; the only ones under `method: points`."""
    method: Literal["bayes", "random", "grid", "points"] = "bayes"
    metrics: Annotated[tuple[MetricGoal, ...], Field(min_length=1)]
    constraints: tuple[ConstraintText, ...] = ()
    run_cap: Annotated[Whole, Field(ge=1, le=MOST_TRIALS)] | None = None
    """Trials in all, baselines not counted; dealt out over the networks in turn."""
    seed: Count = 0
    early_terminate: EarlyTerminate | None = None
    resources: Resources = Resources()
    max_trial_failures: Count = 3
    """How often a trial is tried again after its worker died, or its machine had a fault, other images or no weights,
    before it counts as failed. Out of memory, it is tried again once, alone; an error that would come again is not."""
    max_failed_trials: PositiveInt | None = None
    """Start no more trials once so many have failed since the search was started or resumed; None: only once ten
    attempts in a row have failed by a machine's images or weights."""
    max_hours: Positive | None = None
    """Start nothing that would not have ended so many hours after the search was started or resumed, going by the
    trials before; None: no limit."""
    max_silent_minutes: Annotated[Number, Field(ge=1)] = 30
    """A trial whose worker gives no sign of life for so long is ended and tried again. Longer than a step, than loading
    the network, and than decoding the images on a machine that has not done it yet."""

    @model_validator(mode="after")
    def _whole(self) -> SearchSpace:
        for name, parameter in self.parameters.items():
            self._check_parameter(name, parameter)
        _check_differ("networks", self.networks)
        _check_differ("metrics", tuple(metric.name for metric in self.metrics))
        self._check_weights()
        self._check_method()
        self._check_points()
        self._check_run_cap()
        return self

    def _check_parameter(self, name: str, parameter: Parameter) -> None:
        where = f"parameters.{name}"
        if name not in parameter_names():
            raise ValueError(f"{where}: unknown parameter; {closest(name, parameter_names())}")
        if parameter.values is not None:
            for number, value in enumerate(parameter.values):
                _check_setting(f"{where}.values.{number}", name, value)
        elif parameter.value is not None:
            _check_setting(f"{where}.value", name, parameter.value)
        elif self.changes_baseline(name):
            raise ValueError(
                f"{where}: must list values, got a range; {name} changes the baseline, which is trained once for each "
                "value"
            )
        else:
            _check_ends(where, name, parameter)

    def _check_weights(self) -> None:
        if isinstance(self.weights, dict):
            if missing := set(self.networks) - self.weights.keys():
                raise ValueError(f"weights: must name every network, got none for {min(missing)}")
            if "baseline" in self.weights.values():
                raise ValueError("weights: baseline must be for all networks; write weights: baseline")
        if self.start is not None and self.weights != "baseline":
            raise ValueError("start: must go with weights: baseline; set that, or leave start out")
        if self.start_weights != "none" and self.start is None:
            raise ValueError("start_weights: must go with weights: baseline and start:; set them, or use weights:")
        if self.weights == "baseline" and self.start is None:
            raise ValueError("start: must be given with weights: baseline, the recipe of the network to start from")

    def _check_method(self) -> None:
        ranges = [name for name, parameter in self.parameters.items() if parameter.choices is None]
        if self.method == "grid" and ranges:
            raise ValueError(f"parameters.{ranges[0]}: must list values under method: grid, got a range")
        combinations = math.prod(len(parameter.choices or ()) for parameter in self.parameters.values())
        if self.method == "grid" and combinations > MOST_TRIALS:
            raise ValueError(
                f"parameters: must have at most {MOST_TRIALS} combinations under method: grid, got {combinations}; "
                "list fewer values, or use method: random"
            )
        if self.method == "points" and not self.points:
            raise ValueError("points: must list at least one setting under method: points")
        early = self.early_terminate
        if early is not None and early.min_epochs >= self.most_epochs:
            where = "parameters.epochs" if "epochs" in self.parameters else "recipe.epochs"
            rule = f"must be below {where}, {self.most_epochs}, got {early.min_epochs}"
            raise ValueError(f"early_terminate.min_epochs: {rule}; lower it, or leave early_terminate out")

    def _check_points(self) -> None:
        for number, point in enumerate(self.points):
            for name, value in point.items():
                self._check_point(f"points.{number}.{name}", name, value)
            open_ones = [name for name, item in self.parameters.items() if len(item.choices or (0, 1)) > 1]
            missing = [name for name in open_ones if name not in point]
            if self.method == "points" and missing:
                raise ValueError(
                    f"points.{number}: must give every parameter under method: points, got no {missing[0]}"
                )

    def _check_point(self, where: str, name: str, value: Value) -> None:
        if name not in self.parameters:
            raise ValueError(f"{where}: must be one of the parameters, {', '.join(self.parameters)}")
        _check_setting(where, name, value)
        parameter = self.parameters[name]
        if not parameter.holds(value):
            allowed = f"{parameter.min} to {parameter.max}" if parameter.choices is None else shown(parameter.choices)
            raise ValueError(f"{where}: must be what parameters.{name} allows, {allowed}, got {shown(value)}")

    def _check_run_cap(self) -> None:
        if self.run_cap is None and self.method in ("bayes", "random"):
            raise ValueError(f"run_cap: must say how many trials to run under method: {self.method}, as in run_cap: 16")
        if self.run_cap is not None and self.run_cap < len(self.networks):
            raise ValueError(f"run_cap: must give each of {len(self.networks)} networks a trial, got {self.run_cap}")

    def settings(self, network: NetworkName, sampled: dict[str, Value]) -> TrialSettings:
        """The settings of one trial: this file's, with the sampled values put in. `weights: baseline` stays as it is.

        Raises:
            SpaceError: a value that its field does not take.
        """
        content: dict[str, Any] = {
            "network": network,
            "weights": self.weights if isinstance(self.weights, str) else self.weights[network],
            "data": self.data.model_dump(),
            "recipe": self.recipe.model_dump(),
            "explanation": self.explanation.model_dump(),
            "evaluation": self.evaluation.model_dump(),
            "collapse": self.collapse.model_dump(),
            "seed": self.seed,
            "activation_checkpointing": self.resources.activation_checkpointing,
        }
        for name, value in sampled.items():
            group = group_of(name)
            (content if group is None else content[group])[name] = value
        return check_settings(content)

    @property
    def most_epochs(self) -> int:
        """Epochs of the longest trials."""
        parameter = self.parameters.get("epochs")
        if parameter is None or parameter.choices is None:
            return self.recipe.epochs
        return max(int(epochs) for epochs in parameter.choices)

    def changes_baseline(self, name: str) -> bool:
        """Whether a parameter is one of the baseline's own settings, so that each of its values needs a baseline."""
        views = self.parameters.get("ce_on_views")
        asked = (self.explanation.ce_on_views,) if views is None else views.choices or ()
        return name in shared_names(on_both_views="both" in asked) or name not in Explanation.model_fields

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        return tuple(parse_constraint(text) for text in self.constraints)


class _Seed(Settings):
    seed: Count


def parameter_names() -> tuple[str, ...]:
    """What a space file may search."""
    return (*Explanation.model_fields, *Recipe.model_fields, "seed")


def load_space(path: Path, overrides: dict[str, Any] | None = None) -> SearchSpace:
    """The space in `path`, with `overrides` (`{"data.root": ...}`) put in before it is checked.

    `weights` overrides `start_weights` where the space says `weights: baseline`.

    Raises:
        SpaceError: one line, naming the file, the field, the rule and the way out.
    """
    content = read_yaml(path)
    for dotted, value in (overrides or {}).items():
        # Weights from outside are for whatever is trained first.
        first = "start_weights" if dotted == "weights" and content.get("weights") == "baseline" else dotted
        put_setting(content, first, value)
    try:
        space = SearchSpace.model_validate(content)
    except ValidationError as error:
        raise SpaceError(one_line(f"{path}: {explain_error(error, SearchSpace)}")) from None
    _check_heeded(path, space)
    return space


def check_settings(content: dict[str, Any]) -> TrialSettings:
    """One trial's settings, as the command line gives them.

    Raises:
        SpaceError: one line, naming the field, the rule and the way out.
    """
    try:
        return TrialSettings.model_validate(content)
    except ValidationError as error:
        raise SpaceError(one_line(explain_error(error, TrialSettings))) from None


def _check_heeded(path: Path, space: SearchSpace) -> None:
    """That no trial goes by another value than the file's. Of the file alone: run.json gives all fields."""
    for name, parameter in space.parameters.items():
        group = group_of(name)
        settings = None if group is None else getattr(space, group)
        if (
            settings is not None
            and name in settings.model_fields_set
            and parameter.choices != (getattr(settings, name),)
        ):
            rule = f"must not stand beside parameters.{name}, which says it for every trial"
            raise SpaceError(one_line(f"{path}: {group}.{name}: {rule}; leave it out"))
    searched = space.parameters.get("image_size")
    sizes = (space.recipe.image_size,) if searched is None else searched.choices
    start = space.start
    if start is not None and "image_size" in start.model_fields_set and (start.image_size,) != sizes:
        rule = f"must be that of the trials, whose images the start network sees: {shown(sizes)}"
        raise SpaceError(one_line(f"{path}: start.image_size: {rule}, got {start.image_size}; leave it out"))


def _check_differ(where: str, values: tuple[str, ...]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{where}: must differ, got {shown(values)}")


def _check_ends(where: str, name: str, parameter: Parameter) -> None:
    assert parameter.min is not None, "a range has both"
    assert parameter.max is not None, "a range has both"
    if parameter.distribution != "int_uniform" and Explanation.model_fields[name].annotation is int:
        raise ValueError(f"{where}: distribution must be int_uniform for whole numbers, got {parameter.distribution}")
    _check_setting(f"{where}.min", name, parameter.min)
    _check_setting(f"{where}.max", name, parameter.max)


def _check_setting(where: str, name: str, value: Value) -> None:
    groups: dict[str | None, type[Settings]] = {"explanation": Explanation, "recipe": Recipe, None: _Seed}
    model = groups[group_of(name)]
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        raise ValueError(f"{where}: {explain_complaint(error.errors(include_url=False)[0], model)}") from None


def group_of(name: str) -> Literal["recipe", "explanation"] | None:
    """The section that a setting of this name stands in."""
    if name in Explanation.model_fields:
        return "explanation"
    return "recipe" if name in Recipe.model_fields else None


def put_setting(content: dict[str, Any], dotted: str, value: Any) -> None:
    """Puts `value` at `section.name`; where a section is none, that is left for the check to tell."""
    *parents, last = dotted.split(".")
    for key in parents:
        inner = content.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        content = inner
    content[last] = value
