"""How much memory this process has needed at most."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import torch


def peak_bytes(device: torch.device) -> int:
    """What torch's allocator held of a GPU since its peak was last reset; on the CPU, what the process ever held."""
    if device.type == "cuda":
        # What a replayed graph works in counts as reserved alone.
        return torch.cuda.max_memory_reserved(device)
    try:
        # The other number is taken over from the process that started this one.
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found is not None:
        return 1024 * int(found[1])
    # The system's own unit: KiB on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
