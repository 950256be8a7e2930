"""A search handed to a cluster from elsewhere, as a Ray Job. It runs on without us."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gcc_search import __version__
from gcc_search.errors import ClusterError, SpaceError
from gcc_search.search.frames import FRAMES_VARIABLE
from gcc_search.search.job_client import JobClient
from gcc_search.space import load_space

VERSION_VARIABLE = "GCC_SEARCH_CLIENT_VERSION"
# A search that is stopped saves its states first; Ray kills it after 3 s by default.
STOP_SECONDS = 30
# They stay in the job's log.
FRAME_SECONDS = 10.0
_SPACE_FILE = "space.yaml"
_METADATA = "gcc_search"
_CHECKED_HERE = ("name", "data.root", "weights", "run_cap", "seed", "max_hours")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A space file, and the options of `gcc-search search` as they are given on the cluster.

    Args:
        results: where the run will be, on the cluster or in a bucket.
    """

    space: Path
    options: tuple[str, ...]
    results: str


def make_submission(space: Path, *, out: str, options: dict[str, Any]) -> Submission:
    """Checks what can be checked here; images and weights are the cluster's.

    Args:
        options: of `gcc-search search`, by name without dashes; those that are None are left out.

    Raises:
        SpaceError: the space file is wrong, or a path is relative: it would be one of this machine's.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    named = {name.replace("-", "_"): value for name, value in given.items()}
    named["data.root"] = named.pop("data_root", None)
    overrides = {name: named[name] for name in _CHECKED_HERE if named.get(name) is not None}
    checked = load_space(space, overrides)
    check_place("--out", out)
    if checked.data.root is not None:
        check_place("--data-root" if "data-root" in given else f"{space}: data.root", str(checked.data.root))
    words = ["--out", out]
    for name, value in given.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return Submission(space=space, options=tuple(words), results=f"{out.rstrip('/')}/{checked.name}")


def check_place(where: str, place: str) -> None:
    """Whether `place` means the same on this machine and on the cluster.

    Raises:
        SpaceError: it is a relative path.
    """
    if "://" not in place and not PurePosixPath(place).is_absolute():
        raise SpaceError(f"{where}: must be a whole path on the cluster, or a bucket, got {place}; begin it with /")


def submit(submission: Submission, client: JobClient) -> str:
    """Hands the search to the cluster. The job's id."""
    folder = Path(tempfile.mkdtemp(prefix="gcc-search-job-"))
    try:
        shutil.copy(submission.space, folder / _SPACE_FILE)
        words = ["python", "-m", "gcc_search", "--space", _SPACE_FILE, "--address", "auto", *submission.options]
        environment = {
            VERSION_VARIABLE: __version__,
            FRAMES_VARIABLE: str(FRAME_SECONDS),
            "PYTHONUNBUFFERED": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
        }
        return client.submit(
            entrypoint=shlex.join(words),
            runtime_env={"working_dir": str(folder), "env_vars": environment},
            metadata={_METADATA: json.dumps({"results": submission.results})},
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def results_of(job: Any) -> str | None:
    """Where a job (Ray's JobDetails) puts its run; None for one that is no search."""
    told = (job.metadata or {}).get(_METADATA)
    return None if told is None else str(json.loads(told)["results"])


def check_version() -> None:
    """Nothing, unless this process was submitted by another version than ours.

    Raises:
        ClusterError: it was.
    """
    theirs = os.environ.get(VERSION_VARIABLE, __version__)
    if theirs != __version__:
        raise other_version(theirs, "as where the search was submitted", __version__)


def other_version(here: str, where: str, there: str) -> ClusterError:
    return ClusterError(f"gcc-search on the cluster must be {here}, {where}, got {there}; install the same on both")
