"""A search-space file: YAML in the words of W&B sweeps -> `SearchSpace`, frozen. Knows neither Ray nor Optuna."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from gcc_search.errors import SpaceError
from gcc_search.objectives import METRICS, Constraint, closest, parse_constraint
from gcc_search.settings import (
    DataSettings,
    EvaluationSettings,
    Explanation,
    PositiveInt,
    Recipe,
    Settings,
    TrialSettings,
)
from gcc_search.yaml_file import read_yaml

Value = bool | int | float | str
Numeric = Annotated[float, Field(allow_inf_nan=False)]
NetworkName = Literal["resnet18", "resnet50", "convnext_tiny", "convnet_small"]


class Parameter(Settings):
    """One searched or fixed setting: `value`, `values`, or a `distribution` with `min` and `max`."""

    distribution: Literal["uniform", "log_uniform_values", "int_uniform", "categorical", "constant"] | None = None
    min: Numeric | None = None
    max: Numeric | None = None
    value: Value | None = None
    values: tuple[Value, ...] | None = None

    @field_validator("min", "max", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f'must be a number, got the text "{value}"; write it without quotes, as in 1.0e-6')
        return value

    @model_validator(mode="after")
    def _one_form(self) -> Parameter:
        given = [name for name in ("value", "values") if getattr(self, name) is not None]
        ranged = self.min is not None or self.max is not None
        if len(given) + ranged != 1:
            raise ValueError("must have one of: value; values; min and max with a distribution")
        if self.values is not None and len(self.values) == 0:
            raise ValueError("values must not be empty")
        if self.values is not None and len(set(self.values)) < len(self.values):
            raise ValueError(f"values must differ, got {list(self.values)}")
        if ranged:
            self._check_range()
        return self

    def _check_range(self) -> None:
        if self.min is None or self.max is None:
            raise ValueError("a range must have both min and max")
        if self.distribution in (None, "categorical", "constant"):
            raise ValueError("a range must say its distribution: uniform, log_uniform_values or int_uniform")
        if self.min >= self.max:
            raise ValueError(f"min must be below max, got {self.min} and {self.max}")
        if self.distribution == "log_uniform_values" and self.min <= 0:
            raise ValueError(
                f"min must be above 0 in log_uniform_values, got {self.min}; start higher, or list 0 under values:"
            )
        if self.distribution == "int_uniform" and not (self.min.is_integer() and self.max.is_integer()):
            raise ValueError(f"min and max must be whole in int_uniform, got {self.min} and {self.max}")

    @property
    def choices(self) -> tuple[Value, ...] | None:
        """All values it can take, or None for a range."""
        return self.values if self.values is not None else None if self.value is None else (self.value,)


class MetricGoal(Settings):
    name: str
    goal: Literal["maximize", "minimize"] | None = None

    @model_validator(mode="after")
    def _known(self) -> MetricGoal:
        if self.name not in METRICS:
            raise ValueError(f"unknown metric {self.name}; {closest(self.name, METRICS)}")
        known = METRICS[self.name].goal
        if self.goal not in (None, known):
            raise ValueError(f"goal of {self.name} must be {known}, got {self.goal}")
        return self


class EarlyTerminate(Settings):
    """Successive halving: at each rung only the best 1 / eta of the trials that reached it go on."""

    type: Literal["asha"]
    metric: str
    min_epochs: PositiveInt = 1
    max_epochs: PositiveInt | None = None
    eta: Annotated[int, Field(ge=2)] = 3

    @model_validator(mode="after")
    def _known(self) -> EarlyTerminate:
        if self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric}; {closest(self.metric, METRICS)}")
        return self


class Resources(Settings):
    """What one trial holds while it runs. A quarter of a GPU means four trials on one."""

    cpus_per_trial: Annotated[float, Field(gt=0)] = 1
    gpus_per_trial: Annotated[float, Field(gt=0)] = 1
    """Ignored with `--gpus 0`."""


class SearchSpace(Settings):
    """A whole space file; see search_spaces/ for commented examples."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    networks: Annotated[tuple[NetworkName, ...], Field(min_length=1)]
    weights: str | dict[NetworkName, str] = "IMAGENET1K_V1"
    """As in `TrialSettings`, one for all or one for each network; `baseline`: start every trial from a network trained once
    from scratch by `start`."""
    data: DataSettings
    recipe: Recipe = Recipe()
    start: Recipe | None = None
    """The recipe of the network that `weights: baseline` starts from."""
    explanation: Explanation = Explanation()
    evaluation: EvaluationSettings = EvaluationSettings()
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    points: tuple[dict[str, Value], ...] = ()
    """Settings to try first, one dict each; the only ones under `method: points`."""
    method: Literal["bayes", "random", "grid", "points"] = "bayes"
    metrics: Annotated[tuple[MetricGoal, ...], Field(min_length=1)]
    constraints: tuple[str, ...] = ()
    run_cap: PositiveInt | None = None
    """Trials in all, baselines not counted; dealt out over the networks in turn."""
    seed: Annotated[int, Field(ge=0)] = 0
    early_terminate: EarlyTerminate | None = None
    resources: Resources = Resources()

    @field_validator("constraints")
    @classmethod
    def _constraints(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            try:
                parse_constraint(text)
            except SpaceError as error:
                raise ValueError(str(error)) from None
        return texts

    @field_validator("parameters")
    @classmethod
    def _parameters(cls, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        for name, parameter in parameters.items():
            _check_parameter(name, parameter)
        return parameters

    @model_validator(mode="after")
    def _whole(self) -> SearchSpace:
        if len(set(self.networks)) < len(self.networks):
            raise ValueError(f"networks must differ, got {list(self.networks)}")
        if isinstance(self.weights, dict) and (missing := set(self.networks) - self.weights.keys()):
            raise ValueError(f"weights must name every network, got none for {sorted(missing)[0]}")
        if self.start is not None and self.weights != "baseline":
            raise ValueError("start must go with weights: baseline")
        if self.weights == "baseline" and self.start is None:
            raise ValueError("weights: baseline must go with start: (the recipe that trains the network to start from)")
        self._check_method()
        self._check_points()
        return self

    def _check_method(self) -> None:
        ranges = [name for name, parameter in self.parameters.items() if parameter.choices is None]
        if self.method == "grid" and ranges:
            raise ValueError(f"parameters.{ranges[0]}: must list values under method: grid, got a range")
        if self.method == "points" and not self.points:
            raise ValueError("points must list at least one setting under method: points")
        if self.run_cap is None and self.method in ("bayes", "random"):
            raise ValueError("run_cap must say how many trials to run under method: bayes or random")
        if self.run_cap is not None and self.run_cap < len(self.networks):
            raise ValueError(f"run_cap must give every network a trial, got {self.run_cap} for {len(self.networks)}")

    def _check_points(self) -> None:
        for number, point in enumerate(self.points):
            for name, value in point.items():
                if name not in self.parameters:
                    raise ValueError(f"points.{number}: {name} must be one of parameters: {', '.join(self.parameters)}")
                _check_setting(f"points.{number}.{name}", name, value)

    def settings(self, network: NetworkName, sampled: dict[str, Value]) -> TrialSettings:
        """The settings of one trial: this file's, with the sampled values put in. `weights: baseline` is left as it is.

        Raises:
            SpaceError: a value that its field does not take.
        """
        weights = self.weights if isinstance(self.weights, str) else self.weights[network]
        groups: dict[str, dict[str, Any]] = {group: {} for group in ("recipe", "explanation")}
        seed = self.seed
        for name, value in sampled.items():
            if name == "seed":
                seed = int(value)
            else:
                groups[_group(name)][name] = value
        return TrialSettings(
            network=network,
            weights=weights,
            data=self.data,
            recipe=_updated(self.recipe, groups["recipe"]),
            explanation=_updated(self.explanation, groups["explanation"]),
            evaluation=self.evaluation,
            seed=seed,
        )

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        return tuple(parse_constraint(text) for text in self.constraints)


def parameter_names() -> tuple[str, ...]:
    """What a space file may search."""
    return (*Explanation.model_fields, *Recipe.model_fields, "seed")


def changes_baseline(name: str) -> bool:
    """Whether a parameter is one of the baseline's own settings, so that each of its values needs a baseline."""
    return name not in Explanation.model_fields


def load_space(path: Path, overrides: dict[str, Any] | None = None) -> SearchSpace:
    """The space in `path`, with `overrides` (`{"data.root": ...}`) put in before it is checked.

    Raises:
        SpaceError: one line, naming the file, the field, the rule and the way out.
    """
    content = read_yaml(path)
    for dotted, value in (overrides or {}).items():
        _put(content, dotted.split("."), value)
    try:
        return SearchSpace.model_validate(content)
    except ValidationError as error:
        raise SpaceError(f"{path}: {explain_error(error, SearchSpace)}") from None


def check_settings(content: dict[str, Any]) -> TrialSettings:
    """One trial's settings, as the command line gives them.

    Raises:
        SpaceError: one line, naming the field, the rule and the way out.
    """
    try:
        return TrialSettings.model_validate(content)
    except ValidationError as error:
        raise SpaceError(explain_error(error, TrialSettings)) from None


def explain_error(error: ValidationError, model: type[Settings]) -> str:
    """The first of pydantic's complaints as `field: rule, got value`, with the nearest known key for a misspelt one."""
    first, *rest = error.errors(include_url=False)
    place = ".".join(str(part) for part in first["loc"] if not _is_branch_tag(part))
    told = f" (and {len(rest)} more to mend)" if rest and first["type"] != "value_error" else ""
    if first["type"] == "extra_forbidden":
        known = tuple(_fields_at(model, first["loc"][:-1]))
        return f"{place}: unknown key; {closest(str(first['loc'][-1]), known)}{told}"
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        message = "must be given; see search_spaces/ for examples"
    else:
        message = f"{_rule(first['msg'])}, got {first['input']!r}"
    return f"{place}: {message}{told}" if place else f"{message}{told}"


def _rule(message: str) -> str:
    return message.replace("Input should be", "must be").replace("String should", "must").replace("Value should", "must")


def _is_branch_tag(part: int | str) -> bool:
    # pydantic names the branch of a union it tried (`bool`, `dict[...]`); people did not write that.
    return isinstance(part, str) and (part in ("bool", "int", "float", "str") or "[" in part)


def _fields_at(model: type[Settings], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None  # type: ignore[index]
        inner = _settings_in(annotation)
        if inner is not None:
            model = inner
    return list(model.model_fields)


def _settings_in(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    found = (_settings_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((item for item in found if item is not None), None)


def _check_parameter(name: str, parameter: Parameter) -> None:
    if name not in parameter_names():
        raise ValueError(f"unknown parameter {name}; {closest(name, parameter_names())}")
    if changes_baseline(name) and parameter.choices is None:
        raise ValueError(f"{name} must list values: it changes the baseline, which is trained once for each value")
    ends = (parameter.min, parameter.max) if parameter.choices is None else parameter.choices
    for value in ends:
        _check_setting(name, name, int(value) if parameter.distribution == "int_uniform" else value)  # type: ignore[arg-type]


def _check_setting(where: str, name: str, value: Value | None) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: must be finite, got {value}")
    if name == "seed":
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{where}: must be a whole number from 0 on, got {value!r}")
        return
    model = Explanation if _group(name) == "explanation" else Recipe
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        raise ValueError(explain_error(error, model).replace(name, where, 1)) from None


def _group(name: str) -> Literal["recipe", "explanation"]:
    return "explanation" if name in Explanation.model_fields else "recipe"


def _updated(settings: Any, changes: dict[str, Any]) -> Any:
    return type(settings).model_validate(settings.model_dump() | changes)


def _put(content: dict[str, Any], keys: list[str], value: Any) -> None:
    *parents, last = keys
    for key in parents:
        inner = content.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        content = inner
    content[last] = value
