"""The share of a machine's cores that this process may use: a container or a batch job seldom has them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(membership: Path = _MEMBERSHIP, cgroups: Path = _CGROUPS) -> int:
    """Cores of the affinity (Slurm, taskset, --cpuset-cpus), at most the quota (--cpus, a pod's limit); 1 at least.

    Args:
        membership: /proc/PID/cgroup, the groups that the process is in. cgroups: where their files are mounted.
    """
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([given, *_quotas(membership, cgroups)])))


def _quotas(membership: Path, cgroups: Path) -> Iterator[float]:
    """Cores by the quota of each group that this process is in: its own, those around it, and the container's."""
    for line in _read(membership).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = cgroups / controllers
        # A group of the host's, named inside a container, is not there; the top one is the container's own.
        own = top / group.lstrip("/")
        for folder in (own, *own.parents):
            yield from _quota(folder)
            if folder == top:
                break


def _quota(folder: Path) -> Iterator[float]:
    """Of one group: version 2's file, or version 1's two; nothing where there is no limit."""
    words = _read(folder / "cpu.max").split() or [
        word for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us") for word in _read(folder / name).split()
    ]
    # `max` or -1: none.
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
