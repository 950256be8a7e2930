"""`--dry-run`: what a search would train, where it would put it, and what it would cost."""

from __future__ import annotations

import math
from statistics import fmean

import torch
from rich.console import Console

from gcc_search.atomic import place_of
from gcc_search.cost import Cost, estimate_cost
from gcc_search.saying import say
from gcc_search.search.bill import Needed, count_networks, seconds_in_all, trials_take_turns
from gcc_search.search.measuring import heaviest_words, pack_trials
from gcc_search.search.readiness import Prepared
from gcc_search.settings import NetworkName
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import Parameter, Value


def print_plan(prepared: Prepared, console: Console) -> None:
    """The plan as plain lines. Times a few steps of each network; writes nothing.

    Raises:
        ResourceError: a trial does not fit on the GPU, or on this machine.
    """
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
    space, machines = prepared.space, prepared.machines
    needed = count_networks(space)
    if machines.num_gpus and not torch.cuda.is_available():
        return [*map(_network, needed), "cost      not known: this machine has no GPU as the cluster has"]
    device = torch.device("cuda" if machines.num_gpus else "cpu")
    # Timed with the threads that a trial will have: on the CPU that is what it costs.
    torch.set_num_threads(max(1, int(machines.cpus_per_trial)))
    costs = [(item, _mean_cost(prepared, item.network, device)) for item in needed]
    total = sum(item.seconds(cost) for item, cost in costs)
    turns = ", as if trials that share a GPU took turns" if trials_take_turns(machines) else ""
    early = "; early stopping makes it less" if space.early_terminate else ""
    return [
        *(_network(item, cost) for item, cost in costs),
        f"cost      about {_told(total)} on one device at a time, "
        f"{_told(seconds_in_all(costs, machines))} with {machines.slots} trials at a time{turns}",
        f"          guessed from a few steps timed here{early}",
    ]


def _mean_cost(prepared: Prepared, network: NetworkName, device: torch.device) -> Cost:
    """Over the image sizes that trials may have."""
    space, sample = prepared.space, usual_sample(prepared.space)
    return Cost.mean(
        [
            estimate_cost(
                space.settings(network, sample | {"image_size": size}),
                epochs=mean_epochs(space),
                start=space.start,
                data=data,
                device=device,
            )
            for size, data in prepared.datasets.items()
        ]
    )


def _network(needed: Needed, cost: Cost | None = None) -> str:
    counts = {"trials": needed.trials, "baseline(s)": needed.baselines, "start network(s)": needed.starts}
    each = [""] * 3
    if cost is not None:
        seconds = (cost.trial_seconds, cost.baseline_seconds, cost.start_seconds)
        each = [f" of about {_told(item)}" for item in seconds]
    parts = [f"{count} {what}{about}" for (what, count), about in zip(counts.items(), each, strict=True) if count]
    return f"network   {needed.network}: {', '.join(parts)}"


def mean_epochs(space: SearchSpace) -> float:
    """Of a trial, where each of the listed numbers is as frequent: what it costs grows with them."""
    parameter = space.parameters.get("epochs")
    if parameter is None or parameter.choices is None:
        return space.recipe.epochs
    return fmean(int(epochs) for epochs in parameter.choices)


def usual_sample(space: SearchSpace) -> dict[str, Value]:
    """What a trial may well be given, every term of the loss that any trial takes among it.

    The middle of a range or of listed numbers, of two the larger; of words the most costly, where that is known, and
    the first otherwise.
    """
    return {name: _usual(parameter) for name, parameter in space.parameters.items()} | heaviest_words(space)


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
