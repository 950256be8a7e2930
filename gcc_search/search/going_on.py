"""How a search is ended by a user and gone on with, for those that only look on: Ray Tune takes a second to load."""

from __future__ import annotations

import shlex
import signal

# What asks a search to end.
ASKS = (signal.SIGINT, signal.SIGTERM)


def resume_command(run: str, *, gpus: int | None, storage: str | None, address: str | None) -> str:
    """What goes on with a search in `run`, a folder or a bucket's URL, with options of `gcc-search resume`."""
    chosen = {"--gpus": gpus, "--storage": storage, "--address": address}
    words = [word for name, value in chosen.items() if value is not None for word in (name, str(value))]
    return shlex.join(["gcc-search", "resume", run, *words])
