"""Parameters of a space file as Optuna distributions."""

from __future__ import annotations

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gcc_search.vocabulary import Parameter


def to_distribution(parameter: Parameter) -> BaseDistribution:
    """What Optuna samples for `parameter`; a single value is a category of one."""
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    assert parameter.min is not None, "space.py lets no half range through"
    assert parameter.max is not None, "space.py lets no half range through"
    if parameter.distribution == "int_uniform":
        return IntDistribution(int(parameter.min), int(parameter.max))
    return FloatDistribution(parameter.min, parameter.max, log=parameter.distribution == "log_uniform_values")
