"""What it costs that no file of a trial is lost or changed unseen: one trial with and without fsync and digests."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gcc_search import keeper
from gcc_search.identity import Identity
from gcc_search.recording import record_trial
from gcc_search.results import seal, writer
from gcc_search.settings import DataSettings, EvaluationSettings, Explanation, Recipe, TrialSettings
from gcc_search.training import checkpoint

# Its share is timed call by call; only the ratio of whole trials needs many.
ROUNDS = {"convnet_small": 3, "resnet18": 1}
# What is done for safety's sake alone: written files reach the disk, and carry digests.
SAFETY: tuple[tuple[Any, str, object], ...] = (
    (os, "fsync", None),
    (checkpoint, "sha256", "0" * 64),
    (keeper, "sha256_of_file", "0" * 64),
    (writer, "checksum", "0" * 64),
    (seal, "_digest", b"0" * 64),
)
TRIALS = {
    "convnet_small, 64 px, 8 epochs": TrialSettings(
        network="convnet_small",
        weights="none",
        data=DataSettings(name="shapes", num_images=500),
        recipe=Recipe(epochs=8, lr=0.01, image_size=64),
        explanation=Explanation(alpha=1.0, beta=0.1),
        evaluation=EvaluationSettings(insertion_images=20),
    ),
    "resnet18, 224 px, 2 epochs": TrialSettings(
        network="resnet18",
        weights="none",
        data=DataSettings(name="shapes", num_images=300),
        recipe=Recipe(epochs=2, lr=0.01, image_size=224),
        explanation=Explanation(alpha=1.0, beta=0.1),
        evaluation=EvaluationSettings(insertion_images=4),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial: medians over the rounds.

    Args:
        safe_seconds, bare_seconds: the whole trial, with and without; their noise is the machine's.
        safety_seconds: spent in fsync and digests, timed one by one within the safe trial. share: of the whole.
        written_bytes: all that the trial writes. safety_bytes: digests and seals among them.
    """

    trial: str
    safe_seconds: float
    bare_seconds: float
    time_ratio: float
    safety_seconds: float
    share: float
    written_bytes: int
    safety_bytes: int


def measure_safety() -> dict[str, Any]:
    """Rows by trial; on this machine's temporary folder, whose disk decides."""
    console = Console(stderr=True)
    rows = [_measure(name, settings, console) for name, settings in TRIALS.items()]
    Console(file=sys.stdout).print(_table(rows))
    return {"safety": [asdict(row) for row in rows]}


def _measure(name: str, settings: TrialSettings, console: Console) -> Row:
    safe: list[float] = []
    bare: list[float] = []
    spent: list[float] = []
    bytes_of: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        # The first one warms up.
        for number in track(range(ROUNDS[settings.network] + 1), description=name, console=console):
            with _timed() as seconds, _counted() as safe_bytes:
                taken = _seconds(settings, Path(folder) / f"safe-{number}")
            with _removed():
                taken_bare = _seconds(settings, Path(folder) / f"bare-{number}")
            if number > 0:
                safe, bare, spent = [*safe, taken], [*bare, taken_bare], [*spent, sum(seconds)]
            bytes_of = safe_bytes
    median = statistics.median
    return Row(
        trial=name,
        safe_seconds=median(safe),
        bare_seconds=median(bare),
        time_ratio=median(a / b for a, b in zip(safe, bare, strict=True)),
        safety_seconds=median(spent),
        share=median(a / b for a, b in zip(spent, safe, strict=True)),
        written_bytes=bytes_of["all"],
        safety_bytes=bytes_of["safety"],
    )


def _seconds(settings: TrialSettings, folder: Path) -> float:
    began = time.perf_counter()
    for _ in record_trial(settings, folder, Identity(id="trial"), device=torch.device("cpu")):
        pass
    return time.perf_counter() - began


@contextlib.contextmanager
def _removed() -> Iterator[None]:
    with contextlib.ExitStack() as patches:
        for place, name, constant in SAFETY:
            patches.enter_context(mock.patch.object(place, name, lambda *_, constant=constant: constant))
        yield


@contextlib.contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds of every call that is for safety's sake."""
    seconds: list[float] = []

    def timed(call: Callable[..., object]) -> Callable[..., object]:
        def timed_call(*arguments: object) -> object:
            began = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                seconds.append(time.perf_counter() - began)

        return timed_call

    with contextlib.ExitStack() as patches:
        for place, name, _ in SAFETY:
            patches.enter_context(mock.patch.object(place, name, timed(getattr(place, name))))
        yield seconds


@contextlib.contextmanager
def _counted() -> Iterator[dict[str, int]]:
    """Bytes that reach the disk, by the files that are synced; of a file, its digest of 64 places is safety's."""
    counts = {"all": 0, "safety": 0}
    fsync = os.fsync

    def counting(handle: int) -> None:
        size = os.fstat(handle).st_size
        is_file = os.path.isfile(f"/proc/self/fd/{handle}")  # noqa: PTH113 (a handle, not a path)
        counts["all"] += size if is_file else 0
        counts["safety"] += 64 if is_file else 0
        fsync(handle)

    with mock.patch.object(os, "fsync", counting):
        yield counts


def _table(rows: list[Row]) -> Table:
    table = Table("trial", "time with / without", "in fsync and digests", "bytes written", "of them digests")
    for row in rows:
        spent = f"{row.safety_seconds:.3f} of {row.safe_seconds:.1f} s: {100 * row.share:.2f} %"
        digests = f"{row.safety_bytes} ({100 * row.safety_bytes / row.written_bytes:.3f} %)"
        table.add_row(row.trial, f"{row.time_ratio:.3f}", spent, f"{row.written_bytes / 1e6:.1f} MB", digests)
    return table
