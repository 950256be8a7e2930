"""`--dry-run`: what a search would train, where it would put it, and what it would cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search would train.

    Args:
        costs: of each network; None where this machine cannot time them.
    """

    prepared: Prepared
    needed: Sequence[Needed]
    costs: Sequence[Cost] | None

    @property
    def device_seconds(self) -> float | None:
        """Of all of it on one device, one network after the other."""
        return None if self.costs is None else sum(map(Needed.seconds, self.needed, self.costs))

    @property
    def seconds(self) -> float | None:
        """Of all of it on these machines."""
        if self.costs is None:
            return None
        return seconds_in_all(list(zip(self.needed, self.costs, strict=True)), self.prepared.machines)


def make_plan(prepared: Prepared, console: Console) -> Plan:
    """Times a few steps of each network; writes nothing.

    Raises:
        ResourceError: a trial does not fit on the GPU, or on this machine.
    """
    machines = prepared.machines
    if machines.num_gpus > machines.num_missing_gpus:
        prepared = pack_trials(prepared, console)
    needed = count_networks(prepared.space)
    return Plan(prepared=prepared, needed=needed, costs=_time(prepared, needed))


def print_plan(plan: Plan, console: Console) -> None:
    """The plan as plain lines."""
    for line in (*_asked(plan.prepared), *_costs(plan)):
        say(console, line)


def to_json(plan: Plan) -> str:
    """One JSON object: the run directory, how many networks of which kind, guessed seconds; null where not known."""
    return json.dumps(
        {
            "run": place_of(plan.prepared.run.resolve()),
            "trials": sum(needed.trials for needed in plan.needed),
            "baselines": sum(needed.baselines for needed in plan.needed),
            "starts": sum(needed.starts for needed in plan.needed),
            "networks": [asdict(needed) for needed in plan.needed],
            "trials_at_a_time": plan.prepared.machines.slots,
            "device_seconds": plan.device_seconds,
            "seconds": plan.seconds,
        },
        indent=1,
    )


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


def _costs(plan: Plan) -> list[str]:
    if plan.costs is None:
        return [*map(_network, plan.needed), "cost      not known: this machine has no GPU as the cluster has"]
    assert plan.device_seconds is not None, "known with the costs"
    assert plan.seconds is not None, "known with the costs"
    machines = plan.prepared.machines
    turns = ", as if trials that share a GPU took turns" if trials_take_turns(machines) else ""
    early = "; early stopping makes it less" if plan.prepared.space.early_terminate else ""
    return [
        *map(_network, plan.needed, plan.costs),
        f"cost      about {_told(plan.device_seconds)} on one device at a time, "
        f"{_told(plan.seconds)} with {machines.slots} trials at a time{turns}",
        f"          guessed from a few steps timed here{early}",
    ]


def _time(prepared: Prepared, needed: Sequence[Needed]) -> list[Cost] | None:
    machines = prepared.machines
    if machines.num_gpus and not torch.cuda.is_available():
        return None
    device = torch.device("cuda" if machines.num_gpus else "cpu")
    # Timed with the threads that a trial will have: on the CPU that is what it costs.
    torch.set_num_threads(max(1, int(machines.cpus_per_trial)))
    return [_mean_cost(prepared, item.network, device) for item in needed]


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
