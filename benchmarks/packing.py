"""Several trials on one device at the same time, against one at a time: in processes of their own, and in one."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.mps import NoMpsError, multi_process_service
from benchmarks.one_process import WAYS, measure_ways
from benchmarks.packed_processes import Rate, measure_processes
from benchmarks.timing import best_device, hardware_of
from benchmarks.trial_at_hand import Case
from gcc_search.footprint import in_fresh_process

CUDA_CASE = Case(
    network="resnet18",
    image_size=224,
    batch_size=32,
    counts=(1, 2, 4, 8),
    together=(2, 8),
    window_seconds=2.5,
    patience_seconds=60,
)
CPU_CASES = (
    Case(network="convnet_small", image_size=64, batch_size=32, counts=(1, 2), together=(2,), window_seconds=3),
    Case(network="resnet18", image_size=224, batch_size=8, counts=(1, 2), window_seconds=6),
)
PROCESSES, WITH_MPS = "processes", "processes, MPS"


@dataclass(frozen=True, kw_only=True)
class Row:
    """So many trials at the same time.

    Args:
        images_per_second: trained, of all trials. ratio: to one trial at a time, in a process of its own.
        bytes_a_trial: the most that torch's allocator held of the device for it; on the CPU, resident memory.
        device_bytes: of the device in use, with contexts and with processes that wait their turn; 0 on the CPU.
    """

    case: str
    way: str
    trials: int
    images_per_second: float
    ratio: float
    bytes_a_trial: float
    device_bytes: int


def measure_packing() -> dict[str, Any]:
    """The section of the results file, printed as well; on the GPU where there is one."""
    device = best_device().type
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    for case in (CUDA_CASE,) if device == "cuda" else CPU_CASES:
        rates = {PROCESSES: measure_processes(case, device, threads=_cores())}
        if device == "cuda":
            try:
                with multi_process_service():
                    rates[WITH_MPS] = measure_processes(case, device, threads=_cores())
            except (NoMpsError, RuntimeError) as error:
                left_out[WITH_MPS] = str(error)
        for way, found in _in_one_process(case, device).items():
            if isinstance(found, str):
                left_out[f"{case.name}: {way}"] = found
            else:
                rates[way] = found
        rows += _rows(case, rates)
    show(rows, left_out)
    return {
        "packing": {
            "cores": _cores(),
            "load": os.getloadavg(),
            "rows": [asdict(row) for row in rows],
            "left_out": left_out,
        }
    } | hardware_of(best_device())


def _cores() -> int:
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def _in_one_process(case: Case, device: str) -> dict[str, list[Rate] | str]:
    """The rates of each way, or why it does not work here."""
    if not case.together:
        return {}
    ways = [way for way in WAYS if device == "cuda" or way != "streams"]
    # Many ways, and a second is a hundred steps there.
    briefer = replace(case, window_seconds=1.2) if device == "cuda" else case
    return in_fresh_process(measure_ways, briefer, device, ways, _cores())


def _rows(case: Case, rates: dict[str, list[Rate]]) -> list[Row]:
    alone = next(rate.images_per_second for rate in rates[PROCESSES] if rate.count == 1)
    rows = []
    for way, of_way in rates.items():
        for count in sorted({rate.count for rate in of_way}):
            found = [rate for rate in of_way if rate.count == count]
            speed = sum(rate.images_per_second for rate in found)
            rows.append(
                Row(
                    case=case.name,
                    way=way,
                    trials=count,
                    images_per_second=speed,
                    ratio=speed / alone,
                    bytes_a_trial=sum(rate.peak_bytes for rate in found) / count,
                    device_bytes=max(rate.device_bytes for rate in found),
                )
            )
    return rows


def show(rows: list[Row], left_out: dict[str, str]) -> None:
    table = Table("trained", "in", "trials", "images/s", "/ one at a time", "GiB a trial", "GiB of the device")
    for row in rows:
        device = f"{row.device_bytes / 2**30:.1f}" if row.device_bytes else "-"
        speeds = (f"{row.images_per_second:.0f}", f"{row.ratio:.2f}")
        table.add_row(row.case, row.way, str(row.trials), *speeds, f"{row.bytes_a_trial / 2**30:.2f}", device)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for way, reason in left_out.items():
        print(f"{way}: left out: {reason}")
