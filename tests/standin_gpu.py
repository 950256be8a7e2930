"""A GPU that is not there: a folder in which processes write down what they hold of it. They train on the CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from gcc_search.footprint import Gpu

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class StandInGpu:
    """A `MemoryMeter`: every process that asks holds a context until it ends, one that has trained its memory as well.

    Args:
        taken: by others, who are there before.
        reserved_bytes: what the allocator of a process that has trained holds. peak_bytes: the most that it held.
    """

    folder: Path
    name: str = "Stand-in"
    total: int = 24 * GIB
    taken: int = 0
    context: int = GIB // 2
    reserved_bytes: int = 2 * GIB
    peak_bytes: int = 3 * GIB

    def gpus(self) -> list[Gpu]:
        return [Gpu(name=self.name, total_bytes=self.total)]

    def device(self, index: int) -> torch.device:
        assert index == 0
        return torch.device("cpu")

    def free(self, device: torch.device) -> int:
        if not self._own.exists():
            self._own.write_text(str(self.context))
        held = [int(path.read_text()) for path in self.folder.iterdir() if psutil.pid_exists(int(path.name))]
        return self.total - self.taken - sum(held)

    def reserved(self, device: torch.device) -> tuple[int, int]:
        self._own.write_text(str(self.context + self.reserved_bytes))
        return self.reserved_bytes, self.peak_bytes

    @property
    def _own(self) -> Path:
        return self.folder / str(os.getpid())

    @property
    def num_trained(self) -> int:
        """Processes that have trained, so far."""
        return sum(int(path.read_text()) > self.context for path in self.folder.iterdir())
