"""Seconds of work on a device, which on a GPU is over only when the device says so."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def hardware_of(device: torch.device) -> dict[str, str]:
    """What the results file calls the machine, where it is the GPU that counts."""
    return {"hardware": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    begun = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begun


def take_turns(
    works: Mapping[str, Callable[[], object]], device: torch.device, *, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each in every round, after one that warms up: a busy machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            taken = seconds_of(work, device)
            if number > 0:
                seconds[name].append(taken)
    return seconds


def medians_of(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(taken) for name, taken in seconds.items()}
