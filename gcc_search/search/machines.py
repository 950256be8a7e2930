"""What a search may use, and how many trials that lets run at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gcc_search.cores import usable_cores
from gcc_search.errors import ResourceError
from gcc_search.vocabulary import Resources


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine: what Ray may use of it."""

    host: str
    num_cpus: float
    num_gpus: float


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What a search may use, and how many trials that lets run at once.

    Args:
        num_missing_gpus: asked for, and not there yet: machines are to join.
    """

    num_gpus: int
    num_cpus: float
    slots: int
    gpus_per_trial: float
    cpus_per_trial: float
    num_missing_gpus: int = 0


def this_machine() -> Node:
    return Node(host="this machine", num_cpus=usable_cores(), num_gpus=_count_gpus())


def plan_machines(
    resources: Resources, *, gpus: int | None, nodes: Sequence[Node] = (), may_grow: bool = False
) -> Machines:
    """How many trials run at once.

    Args:
        gpus: GPUs to use; None takes all there are, 0 trains on the CPU.
        nodes: what there is; none: this machine.
        may_grow: whether more machines can join, so that more GPUs may be asked for than there are.

    Raises:
        ResourceError: more GPUs than there are, or a trial that fits nowhere.
    """
    nodes = nodes or [this_machine()]
    there = int(sum(node.num_gpus for node in nodes))
    num_gpus = there if gpus is None else gpus
    place = nodes[0].host if len(nodes) == 1 else f"these {len(nodes)} machines"
    if num_gpus > there and not may_grow:
        raise ResourceError(
            f"--gpus: must be at most {there}, the GPUs of {place}, got {gpus}; --gpus 0 trains on the CPU"
        )
    gpus_per_trial = resources.gpu_share if num_gpus else 0.0
    if num_gpus > there:
        slots = _gpu_slots(num_gpus, gpus_per_trial)
    else:
        slots = sum(_slots_of(node, resources.cpus_per_trial, gpus_per_trial) for node in nodes)
        if num_gpus:
            slots = min(slots, _gpu_slots(num_gpus, gpus_per_trial))
    machines = Machines(
        num_gpus=num_gpus,
        num_cpus=sum(node.num_cpus for node in nodes),
        slots=slots,
        gpus_per_trial=gpus_per_trial,
        cpus_per_trial=resources.cpus_per_trial,
        num_missing_gpus=max(0, num_gpus - there),
    )
    if slots == 0:
        raise _fits_nowhere(machines, nodes)
    return machines


def _fits_nowhere(machines: Machines, nodes: Sequence[Node]) -> ResourceError:
    most_cpus = max(node.num_cpus for node in nodes)
    if machines.cpus_per_trial > most_cpus:
        name, asked, most = "cpus_per_trial", machines.cpus_per_trial, most_cpus
    else:
        name, asked, most = "gpus_per_trial", machines.gpus_per_trial, max(node.num_gpus for node in nodes)
        most = min(most, machines.num_gpus)
    which = f"what {nodes[0].host} may use" if len(nodes) == 1 else "what any one machine may use"
    more = "" if nodes[0].host == this_machine().host else "; --gpus N waits for machines with GPUs to join"
    return ResourceError(f"resources.{name}: must be at most {most:g}, {which}, got {asked:g}{more}")


def _slots_of(node: Node, cpus_per_trial: float, gpus_per_trial: float) -> int:
    slots = int(node.num_cpus / cpus_per_trial)
    return min(slots, _gpu_slots(int(node.num_gpus), gpus_per_trial)) if gpus_per_trial else slots


def _gpu_slots(num_gpus: int, share: float) -> int:
    # Ray places a fraction on one GPU and whole numbers on several.
    return num_gpus * int(1 / share + 1e-9) if share <= 1 else int(num_gpus / share)


def _count_gpus() -> int:
    """CUDA devices that torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
