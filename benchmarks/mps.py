"""NVIDIA's multi-process service, for this process's children alone: their kernels run side by side, not in turn.

The daemon has its pipes and logs in a folder of its own and touches no setting of the card; it ends with the body.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

CONTROL = "nvidia-cuda-mps-control"
ANSWER_SECONDS = 15.0


class NoMpsError(Exception):
    """Why there is none here."""


@contextlib.contextmanager
def multi_process_service() -> Iterator[None]:
    """Processes that start within the body use it.

    Raises:
        NoMpsError: it is not installed, or does not start.
    """
    control = shutil.which(CONTROL) or shutil.which(CONTROL, path="/usr/local/nvidia/bin:/usr/bin")
    if control is None:
        raise NoMpsError(f"{CONTROL} is not installed")
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        places = {
            name: str(Path(folder, name.lower())) for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
        }
        for place in places.values():
            Path(place).mkdir()
        with mock.patch.dict(os.environ, places):
            _call([control, "-d"])
            try:
                yield
            finally:
                _end(control, Path(folder))


def _call(command: list[str], said: str = "") -> None:
    try:
        done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoMpsError(f"{' '.join(command)}: {error}") from None
    if done.returncode != 0:
        raise NoMpsError(f"{' '.join(command)}: ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")


def _end(control: str, folder: Path) -> None:
    try:
        _call([control], "quit\n")
    except NoMpsError:
        # Its own file says which process it is; the servers that it started end with it.
        for file in folder.rglob("*.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(file.read_text()), 9)
