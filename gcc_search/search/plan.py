"""`--dry-run`: what a search would train, where it would put it, and what it would cost."""

from __future__ import annotations

import math

import torch
from rich.console import Console

from gcc_search.atomic import place_of
from gcc_search.cost import estimate_cost
from gcc_search.saying import say
from gcc_search.search.jobs import baseline_combinations
from gcc_search.search.measuring import pack_trials
from gcc_search.search.readiness import Prepared
from gcc_search.search.study import trials_per_network
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import Parameter, Value


def print_plan(prepared: Prepared, console: Console) -> None:
    """The plan as plain lines. Times a few steps of each network; writes nothing."""
    machines = prepared.machines
    if machines.num_gpus > machines.num_missing_gpus:
        prepared = pack_trials(prepared, console)
    for line in (*_asked(prepared), *_costs(prepared)):
        say(console, line)


def _asked(prepared: Prepared) -> list[str]:
    space, machines = prepared.space, prepared.machines
    images = [
        f"images    {data.name} at {size} pixels: {len(data.classes)} classes, {len(data.train)} training, "
        f"{len(data.validation)} validation, {len(data.test)} test"
        for size, data in prepared.datasets.items()
    ]
    return [
        f"results   {place_of(prepared.run)}",
        *images,
        f"devices   {machines.num_gpus} GPUs, {machines.num_cpus:g} CPUs: {machines.slots} trials at a time",
        *_packing(prepared),
        f"search    {space.method} over {', '.join(space.parameters)}",
        f"ranks by  {', '.join(metric.name for metric in space.metrics)} (validation split)",
        f"where     {' and '.join(space.constraints) or 'anything goes'}",
    ]


def _packing(prepared: Prepared) -> list[str]:
    if prepared.space.resources.trials_per_gpu != "auto":
        return []
    later = "trials_per_gpu is measured at start; without GPUs cpus_per_trial alone decides"
    return [f"packing   {prepared.packing.told() if prepared.packing else later}"]


def _costs(prepared: Prepared) -> list[str]:
    space, slots = prepared.space, prepared.machines.slots
    device = torch.device("cuda" if prepared.machines.num_gpus else "cpu")
    # Timed with the threads that a trial will have: on the CPU that is what it costs.
    torch.set_num_threads(max(1, int(prepared.machines.cpus_per_trial)))
    lines, total = [], 0.0
    baselines = baseline_combinations(space)
    for network, count in trials_per_network(space).items():
        settings = space.settings(network, usual_sample(space))
        data = prepared.datasets[settings.recipe.image_size]
        start_epochs = space.start.epochs if space.start else 0
        cost = estimate_cost(settings, start_epochs=start_epochs, data=data, device=device)
        total += count * cost.trial_seconds + baselines * (cost.baseline_seconds + cost.start_seconds)
        start = f", {baselines} start network(s) of about {_told(cost.start_seconds)}" if space.start else ""
        lines.append(
            f"network   {network}: {count} trials of about {_told(cost.trial_seconds)}, "
            f"{baselines} baseline(s) of about {_told(cost.baseline_seconds)}{start}"
        )
    early = "; early stopping makes it less" if space.early_terminate else ""
    lines.append(
        f"cost      about {_told(total)} on one device at a time, {_told(total / slots)} with {slots} trials at a time"
    )
    return [*lines, f"          guessed from a few steps timed here{early}"]


def usual_sample(space: SearchSpace) -> dict[str, Value]:
    """What a trial may well be given, every term of the loss that any trial takes among it.

    The middle of a range or of listed numbers, of two the larger, and the first of what is listed otherwise.
    """
    return {name: _usual(parameter) for name, parameter in space.parameters.items()}


def _usual(parameter: Parameter) -> Value:
    choices = parameter.choices
    if choices is None:
        assert parameter.min is not None, "a range has both"
        assert parameter.max is not None, "a range has both"
        middle = (parameter.min + parameter.max) / 2
        return math.floor(middle) if parameter.distribution == "int_uniform" else middle
    numbers = sorted(value for value in choices if not isinstance(value, str))
    return numbers[len(numbers) // 2] if numbers else choices[0]


def _told(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
