"""`make bench`: runs the benchmarks and leaves a dated results file."""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.step import Row, measure_network, to_records
from gcc_search.atomic import write_atomically

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("resnet18", "resnet50", "convnext_tiny")


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch_size, rounds = (32, 20) if device.type == "cuda" else (8, 5)
    rows: list[Row] = []
    for network in track(NETWORKS, description="measuring"):
        rows += measure_network(network, batch_size=batch_size, rounds=rounds, device=device)
    show(rows)
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"{psutil.cpu_count()}-cpu"
    today = datetime.now(UTC).date().isoformat()
    found = {
        "date": today,
        "command": "python -m benchmarks",
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": version("torch"), "kornia": version("kornia")},
        "step": to_records(rows),
    }
    path = RESULTS / f"{today}-{hardware.replace(' ', '-').lower()}.json"
    write_atomically(path, json.dumps(found, indent=1).encode())
    print(f"wrote {path}", file=sys.stderr)


def show(rows: list[Row]) -> None:
    table = Table("network", "variant", "s a step", "time / floor", "saved MiB", "saved / floor")
    for row in rows:
        numbers = (
            f"{row.seconds:.3f}",
            f"{row.time_ratio:.2f}",
            f"{row.saved_bytes / 2**20:.0f}",
            f"{row.saved_ratio:.2f}",
        )
        table.add_row(row.network, row.variant, *numbers)
    # A pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
