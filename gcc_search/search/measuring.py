"""`trials_per_gpu: auto`: measured on one GPU of every kind there is, before the search's jobs begin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from gcc_search.errors import ClusterError
from gcc_search.footprint import CudaMeter, MemoryMeter, Reading, find_gpus, in_fresh_process, measure_networks
from gcc_search.saying import say
from gcc_search.search.asking import answer_of, or_reason
from gcc_search.search.cluster import joined_nodes, plan
from gcc_search.search.jobs import image_sizes
from gcc_search.search.machines import this_machine
from gcc_search.search.packing import known_readings, pack
from gcc_search.search.readiness import Prepared
from gcc_search.settings import TrialSettings
from gcc_search.space import SearchSpace
from gcc_search.vocabulary import Value

Answer = TypeVar("Answer")
CUDA = CudaMeter()
# What a space may sample and what decides memory, beside sizes: what takes the most first.
_HEAVIEST_FIRST = {
    "detach": ("none", "head", "second-view"),
    "ce_on_views": ("both", "first"),
    "distance": ("ssim", "correlation"),
    "compared_at": ("full", "half"),
    "opposing": ("projected", "kept"),
}
_MEASURES = "trials_per_gpu: auto: measures how many trials fit on each kind of GPU"
_WAITS = "trials_per_gpu: auto: waits for a machine with a GPU, to measure how many trials fit on it"
_NOT_MEASURED = "must measure how many trials fit on its GPU, got: {}; is it still up?"
# A node that Ray is to choose, or to start.
_ANY = "a machine with a GPU"


def pack_trials(
    prepared: Prepared, console: Console, *, known: dict[str, Any] | None = None, meter: MemoryMeter = CUDA
) -> Prepared:
    """The same with as many trials on each GPU as fit, where `trials_per_gpu: auto` asks for it and there are GPUs.

    Args:
        known: a run.json's `packing`: nothing is measured on GPUs of the kinds that it was measured on.

    Raises:
        ResourceError: not one fits, or it could not be measured.
        ClusterError: the same on machines of a cluster, a line for each.
    """
    space, machines = prepared.space, prepared.machines
    if space.resources.trials_per_gpu != "auto" or not machines.num_gpus:
        return prepared
    asked = _Asked(trials=heaviest_trials(space), known=known, console=console, meter=meter)
    if ray.is_initialized():
        readings = _measure_on_cluster(asked, num_cpus=machines.cpus_per_trial)
    else:
        readings = _measure_here(asked, num_gpus=machines.num_gpus)
    # Machines may have joined meanwhile.
    packing = pack(readings, joined_nodes() or [this_machine()], machines)
    resources = space.resources.model_copy(update={"trials_per_gpu": packing.trials_per_gpu})
    return replace(prepared, packing=packing, machines=plan(resources, gpus=prepared.options.gpus))


def heaviest_trials(space: SearchSpace) -> list[TrialSettings]:
    """For each network the settings, of all that the space can sample, that take the most memory.

    With every term of the loss, at the largest image and the largest batch, the start network's among them.
    """
    batch = space.parameters.get("batch_size")
    batches = [space.recipe.batch_size] if batch is None else [int(size) for size in batch.choices or ()]
    if space.start is not None:
        batches.append(space.start.batch_size)
    # A rate so low that the loss stays finite.
    terms: dict[str, Value] = {"alpha": 1.0, "beta": 1.0, "p": 1.0, "lr": 1e-6}
    if "photometric" in space.parameters:
        # Any strength takes as much as any other.
        terms["photometric"] = 1.0
    sizes: dict[str, Value] = {"image_size": max(image_sizes(space)), "batch_size": max(batches)}
    return [space.settings(network, terms | sizes | heaviest_words(space)) for network in space.networks]


def heaviest_words(space: SearchSpace) -> dict[str, Value]:
    """Of the words that are searched and decide memory, those that take the most; they take the most time as well."""
    return {
        name: next(value for value in values if space.parameters[name].holds(value))
        for name, values in _HEAVIEST_FIRST.items()
        if name in space.parameters
    }


@dataclass(frozen=True, kw_only=True)
class _Asked:
    trials: list[TrialSettings]
    known: dict[str, Any] | None
    console: Console
    meter: MemoryMeter


def _measure_here(asked: _Asked, *, num_gpus: int) -> list[Reading]:
    gpus = in_fresh_process(find_gpus, asked.meter)[:num_gpus]
    kinds = {gpu: gpus.index(gpu) for gpu in gpus}
    if (readings := known_readings(asked.known, list(kinds))) is not None:
        return readings
    say(asked.console, _MEASURES)
    return [in_fresh_process(measure_networks, asked.trials, index, asked.meter) for index in kinds.values()]


def _measure_on_cluster(asked: _Asked, *, num_cpus: float) -> list[Reading]:
    """In the Ray that this process has joined; GPUs that others use are waited for, as the trials would."""
    # Of the GPUs of a machine, a task sees the one that it was given.
    given = (asked.trials, 0, asked.meter)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]  # type: ignore[no-untyped-call]
    if not nodes:
        if (readings := known_readings(asked.known, [])) is not None:
            return readings
        say(asked.console, _WAITS)
        return list(_ask(measure_networks, {_ANY: given}, num_cpus=num_cpus).values())
    kinds = {gpus[0]: node for node, gpus in _ask(find_gpus, dict.fromkeys(nodes, (asked.meter,))).items()}
    if (readings := known_readings(asked.known, list(kinds))) is not None:
        return readings
    say(asked.console, _MEASURES)
    return list(_ask(measure_networks, dict.fromkeys(kinds.values(), given)).values())


def _ask(
    question: Callable[..., Answer], asked: Mapping[str, tuple[Any, ...]], *, num_cpus: float = 0
) -> dict[str, Answer]:
    """Each node's answer, from a task that has one of its GPUs to itself and a process that ends with it.

    Raises:
        ClusterError: a line for each that has none.
    """
    remote = ray.remote(num_gpus=1, num_cpus=num_cpus, max_calls=1, max_retries=0)(or_reason)
    pending = {
        node: remote.options(
            scheduling_strategy="DEFAULT" if node == _ANY else NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(question, *given)
        for node, given in asked.items()
    }
    # Left early, they end with this driver: to cancel one that is just answering aborts it (Ray 2.60, tried).
    answers = {node: answer_of(reference, _NOT_MEASURED) for node, reference in pending.items()}
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}  # type: ignore[no-untyped-call]
    problems = {addresses.get(node, node): answer for node, answer in answers.items() if isinstance(answer, str)}
    if problems:
        raise ClusterError("\n".join(sorted(f"{address}: {problem}" for address, problem in problems.items())))
    return answers
