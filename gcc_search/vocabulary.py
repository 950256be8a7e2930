"""The words of a space file, those of W&B sweeps: parameter, metric, early stopping, resources; each checks itself."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from gcc_search.complaints import shown
from gcc_search.objectives import METRICS, closest
from gcc_search.settings import Number, Positive, PositiveInt, Settings, Whole

Value = bool | int | float | str


def _single(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"must be one number, text, true or false, got {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be finite, got {value}")
    return value


def refuse_last_measures(name: str) -> None:
    """Raises ValueError where `name` is no metric to search by since it is known too late, and says so."""
    if name in ("iauc", "dauc"):
        rule = "must be measured on the validation split after each epoch"
        why = "which is scored on the test split, once a trial has ended, and can steer no search"
        raise ValueError(f"{rule}, got {shown(name)}, {why}; known are {', '.join(METRICS)}")


def _metric(name: str) -> str:
    refuse_last_measures(name)
    if name not in METRICS:
        raise ValueError(f"must be a known metric, got {shown(name)}; {closest(name, METRICS)}")
    return name


SingleValue = Annotated[Value, BeforeValidator(_single)]
MetricName = Annotated[str, AfterValidator(_metric)]


class Parameter(Settings):
    """One searched or fixed setting: `value`, `values`, or a `distribution` with `min` and `max`."""

    distribution: Literal["uniform", "log_uniform_values", "int_uniform", "categorical", "constant"] | None = None
    min: Number | None = None
    max: Number | None = None
    value: SingleValue | None = None
    values: tuple[SingleValue, ...] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Parameter:
        given = [name for name in ("value", "values") if getattr(self, name) is not None]
        ranged = self.min is not None or self.max is not None
        if len(given) + ranged != 1:
            raise ValueError("must have one of: value; values; min and max with a distribution")
        if ranged:
            self._check_range()
        else:
            self._check_choices()
        return self

    def _check_choices(self) -> None:
        fitting = "constant" if self.values is None else "categorical"
        if self.distribution not in (None, fitting):
            raise ValueError(
                f"distribution must be {fitting} where values are listed, got {self.distribution}; leave it out"
            )
        if self.values is not None and len(self.values) == 0:
            raise ValueError("values must not be empty; leave the parameter out, or list some")
        if self.values is not None and len(set(self.values)) < len(self.values):
            raise ValueError(f"values must differ, got {shown(self.values)}")

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

    def holds(self, value: Value) -> bool:
        """Whether it can take `value`."""
        if self.choices is not None:
            return value in self.choices
        assert self.min is not None, "a range has both"
        assert self.max is not None, "a range has both"
        return not isinstance(value, str) and self.min <= value <= self.max


class MetricGoal(Settings):
    name: MetricName
    goal: Literal["maximize", "minimize"] | None = None

    @field_validator("goal")
    @classmethod
    def _right(cls, goal: str | None, info: ValidationInfo) -> str | None:
        metric = METRICS.get(info.data.get("name", ""))
        if metric is not None and goal not in (None, metric.goal):
            raise ValueError(f"must be {metric.goal} for {metric.name}, got {goal}")
        return goal


class EarlyTerminate(Settings):
    """Successive halving: at each rung only the best 1 / eta of the trials that reached it go on.

    Best are those that keep the constraints, and of these those that others do not beat in all of the search's metrics.
    """

    type: Literal["asha"]
    metric: MetricName | None = None
    """By this one alone, instead of all that the search ranks by. The constraints count first all the same."""
    min_epochs: PositiveInt = 1
    max_epochs: PositiveInt | None = None
    eta: Annotated[Whole, Field(ge=2)] = 3

    @model_validator(mode="after")
    def _has_rungs(self) -> EarlyTerminate:
        if self.max_epochs is not None and self.min_epochs >= self.max_epochs:
            raise ValueError(f"min_epochs must be below max_epochs, got {self.min_epochs} and {self.max_epochs}")
        return self


def _countable(value: float) -> float:
    if value < 1 / GPU_PARTS:
        raise ValueError(f"must be at least {1 / GPU_PARTS:g}, got {value:g}")
    return value


def _trials_per_gpu(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (is_number and value in range(1, MOST_TRIALS_PER_GPU + 1)):
        raise ValueError(f"must be auto or a whole number from 1 to {MOST_TRIALS_PER_GPU}, got {shown(value)}")
    return value


# Ray counts CPUs and GPUs in ten-thousandths, and knows nothing less.
GPU_PARTS, MOST_TRIALS_PER_GPU = 10_000, 100
Countable = Annotated[Positive, AfterValidator(_countable)]


class Resources(Settings):
    """What one trial holds while it runs. What it says of GPUs is ignored with `--gpus 0`."""

    cpus_per_trial: Countable = 1
    gpus_per_trial: Countable | None = None
    """A quarter means four trials on one GPU, two means one trial on both; 1, where neither this nor `trials_per_gpu`
    is given."""
    trials_per_gpu: Annotated[int | Literal["auto"], BeforeValidator(_trials_per_gpu)] | None = None
    """The same the other way round; auto: as many as fit, by the memory that each network is seen to take at start."""
    activation_checkpointing: bool = False
    """See `TrialSettings.activation_checkpointing`: less memory for more time."""

    @field_validator("gpus_per_trial")
    @classmethod
    def _is_a_share_or_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"must be a whole number where it is above 1, got {value:g}")
        return value

    @model_validator(mode="after")
    def _one_of_them(self) -> Resources:
        if self.gpus_per_trial is not None and self.trials_per_gpu is not None:
            raise ValueError(
                f"must have gpus_per_trial or trials_per_gpu, got both, {self.gpus_per_trial:g} and "
                f"{self.trials_per_gpu}; leave one out"
            )
        return self

    @property
    def gpu_share(self) -> float:
        """GPUs that a trial holds; under `auto` a whole one, until it is measured how many fit."""
        if isinstance(self.trials_per_gpu, int):
            # Ray may round a share up, and one trial too few would fit.
            return GPU_PARTS // self.trials_per_gpu / GPU_PARTS
        return 1.0 if self.gpus_per_trial is None else self.gpus_per_trial
