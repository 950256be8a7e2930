"""From one trial's end to the next one's first step, workers kept or not; whether a process grows by its trials."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.timing import best_device, hardware_of
from gcc_search.footprint import in_fresh_process
from gcc_search.identity import Identity
from gcc_search.recording import record_trial
from gcc_search.results.reader import read_trial
from gcc_search.search.lasting_thread import in_lasting_thread
from gcc_search.search.worker_memory import give_back_memory, set_modules_aside
from gcc_search.settings import DataSettings, EvaluationSettings, Explanation, Recipe, TrialSettings

# What is asked, besides what a network's first step takes more than its others.
BAR_SECONDS = 0.5
KINDS = {"ours": True, "Ray's default": False}
GROWTH = TrialSettings(
    network="resnet18",
    weights="none",
    # Enough for steps, batches and passes to become graphs on a GPU.
    data=DataSettings(name="shapes", num_images=128),
    recipe=Recipe(epochs=1, image_size=32, lr=0.001),
    evaluation=EvaluationSettings(insertion_images=2, batch_size=8),
)


def measure_growth(device_name: str, trials: int) -> dict[str, Any]:
    """Bytes that this process holds after each of so many trials, in the thread that workers have for them.

    Args:
        device_name: on CUDA, what the allocator holds of the device as well.
    """
    device = torch.device(device_name)
    resident, reserved = [], []
    with tempfile.TemporaryDirectory(prefix="gcc-search-bench-") as folder:
        for number in range(trials):
            set_modules_aside()
            settings = GROWTH.model_copy(update={"explanation": Explanation(alpha=1 + number / trials, beta=0.1)})
            place, identity = Path(folder, "trials", str(number)), Identity(id=str(number))
            in_lasting_thread(functools.partial(list, record_trial(settings, place, identity, device=device)))
            if read_trial(place).record.status != "finished":
                raise SystemExit(f"every trial must be finished, got one in {place} that is not")
            shutil.rmtree(place)
            give_back_memory(device)
            resident.append(_resident_bytes())
            reserved.append(torch.cuda.memory_reserved(device) if device.type == "cuda" else 0)
    return {
        "trials": trials,
        "resident_bytes_by_trial": resident,
        "reserved_bytes_by_trial": reserved,
        "growth_bytes_per_trial": _growth(resident),
        "reserved_growth_bytes_per_trial": _growth(reserved),
    }


def _resident_bytes() -> int:
    """Counted anew: what the system keeps count of (`VmRSS`) is off by up to a quarter of a MiB for each core."""
    found = re.search(r"^Rss:\s*(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None, "Linux tells it"
    return 1024 * int(found[1])


def _growth(values: list[int]) -> float:
    """From the second third's median to the last third's: a process warms up in the first."""
    third = max(1, len(values) // 3)
    return (statistics.median(values[-third:]) - statistics.median(values[-2 * third : -third])) / third


def _medians(*, reuse: bool) -> dict[str, float]:
    # Not at the top: growth is measured where there is no Ray, too.
    from benchmarks.one_turnaround import measure_search

    rows = measure_search(reuse=reuse)
    return {part: statistics.median(row[part] for row in rows) for part in rows[0]}


def measure_turnaround(*, trials: int) -> dict[str, Any]:
    """The section of the results file, printed as well. The search is on the CPU; growth on the GPU where there is one.

    Args:
        trials: how many the process trains that is watched for growth.
    """
    has_ray = importlib.util.find_spec("ray") is not None
    found = {name: _medians(reuse=reuse) for name, reuse in KINDS.items()} if has_ray else {}
    growth = in_fresh_process(measure_growth, best_device().type, trials)
    rows = [{"a trial's process": name} | parts for name, parts in found.items()]
    _show(found, growth)
    section = {"bar_seconds": BAR_SECONDS, "load": os.getloadavg(), "seconds": rows, "growth": [growth]}
    # The turnaround is the CPU's wherever it is measured.
    return {"turnaround": section} | ({} if rows else hardware_of(best_device()))


def _show(found: dict[str, dict[str, float]], growth: dict[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("a trial's process", *(f"{part}, s" for part in next(iter(found.values()), {})))
    for name, parts in found.items():
        table.add_row(name, *(f"{seconds:.2f}" for seconds in parts.values()))
    if found:
        console.print(table)
    resident = [bytes_ / 2**20 for bytes_ in growth["resident_bytes_by_trial"]]
    marks = [len(resident) // 10, len(resident) // 2, len(resident) - 1]
    told = ", ".join(f"{resident[mark]:.0f} MiB after {mark + 1}" for mark in marks)
    reserved = growth["reserved_growth_bytes_per_trial"] / 2**20
    print(f"trials in one process: {told}; {growth['growth_bytes_per_trial'] / 2**20:+.3f} MiB a trial")
    print(f"of the device: {reserved:+.3f} MiB a trial")
