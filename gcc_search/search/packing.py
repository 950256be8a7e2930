"""How many trials share a GPU: arithmetic over what was measured (`footprint.py`), and what run.json keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from gcc_search.footprint import Gpu, Reading, fits_not_once
from gcc_search.search.machines import Machines, Node

# Of what is free: fragments that a short measurement does not meet.
HEADROOM = 0.9
# Processes take turns on a GPU; long before this, one more only makes all the others wait.
MOST_TRIALS = 32
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What was measured, a reading for each kind of GPU, and how many trials share one of any of them.

    Args:
        limit: what keeps it from being one more.
        num_in_memory: how many the memory of the tightest kind holds.
    """

    trials_per_gpu: int
    limit: Literal["memory", "cpus", "most"]
    num_in_memory: int
    readings: tuple[Reading, ...]

    def told(self) -> str:
        """One line: the largest network on the tightest kind of GPU, and what follows."""
        reading = min(self.readings, key=num_fitting)
        footprint, number = reading.largest, self.trials_per_gpu
        trials = f"{number} trials" if number > 1 else "1 trial"
        why = {
            "memory": "",
            "cpus": f", as many as cpus_per_trial allows there (memory would hold {self.num_in_memory})",
            "most": f" (memory would hold {self.num_in_memory})",
        }
        return (
            f"{footprint.of}: {footprint.peak_bytes / GIB:.1f} GiB a trial; "
            f"{trials} on each GPU of {reading.gpu.total_bytes / GIB:.0f} GiB{why[self.limit]}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As run.json has it; `known_readings` reads it."""
        return asdict(self)


def pack(readings: Sequence[Reading], nodes: Sequence[Node], machines: Machines) -> Packing:
    """As many trials on each GPU as fit on the tightest kind, and as the CPUs beside each GPU serve.

    Raises:
        ResourceError: not one fits.
    """
    in_memory = min(num_fitting(reading) for reading in readings)
    # More would not run, and Ray would fill the first GPUs of a machine and leave its last ones idle.
    by_cpus = min(
        (_num_served(node, machines) for node in nodes if node.num_gpus),
        default=MOST_TRIALS,
    )
    number = min(in_memory, by_cpus, MOST_TRIALS)
    limit: Literal["memory", "cpus", "most"] = "memory"
    if number < in_memory:
        limit = "cpus" if number == by_cpus else "most"
    return Packing(trials_per_gpu=number, limit=limit, num_in_memory=in_memory, readings=tuple(readings))


def num_fitting(reading: Reading) -> int:
    """How many of the largest network's trials the GPU holds; one that fits at all may have it to itself.

    Raises:
        ResourceError: it does not fit.
    """
    largest = reading.largest
    if largest.peak_bytes > reading.usable_bytes:
        raise fits_not_once(largest.of, reading.gpu.name, reading.usable_bytes)
    return max(1, int(HEADROOM * reading.usable_bytes / largest.peak_bytes))


def _num_served(node: Node, machines: Machines) -> int:
    gpus = min(node.num_gpus, machines.num_gpus)
    return max(1, int(node.num_cpus / machines.cpus_per_trial / gpus))


def known_readings(content: dict[str, Any] | None, gpus: Sequence[Gpu]) -> list[Reading] | None:
    """What run.json says was measured on these kinds of GPU; None where it does not say it of each.

    Args:
        gpus: there now; none: any will do, they are still to join.
    """
    try:
        readings = TypeAdapter(list[Reading]).validate_python((content or {}).get("readings", []))
    except ValidationError:
        return None
    sound = {reading.gpu: reading for reading in readings if _is_sound(reading)}
    if not gpus:
        return list(sound.values()) or None
    return [sound[gpu] for gpu in gpus] if sound.keys() >= set(gpus) else None


def _is_sound(reading: Reading) -> bool:
    return bool(reading.footprints) and all(footprint.peak_bytes > 0 for footprint in reading.footprints)
