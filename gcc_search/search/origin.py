"""Where process numbers count: a machine since it booted, and in it a container. Equal names and numbers say less."""

from __future__ import annotations

import socket
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def origin() -> dict[str, str | None]:
    """Host name, boot and namespace of this process's number; None for what the system does not say."""
    return {"host": socket.gethostname(), "boot": _boot(), "pids": _pid_namespace()}


def is_from_here(told: dict[str, object]) -> bool:
    """Whether a process number that came with `told`, as by `origin`, means the process of that number here."""
    here = origin()
    return None not in here.values() and all(told.get(name) == value for name, value in here.items())


def _boot() -> str | None:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(_PID_NAMESPACE.readlink())
    except OSError:
        return None
