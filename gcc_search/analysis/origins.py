"""Where each trial lies, and the command line that trains its settings again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gcc_search.atomic import place_of
from gcc_search.results.reader import Run, Trial


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A trial's or baseline's directory.

    Args:
        directory: below the run's folder, `trials/ID`; `RUN/trials/ID` where several runs are read together.
        command: for a shell, from the folder in which `analyze` was called.
    """

    directory: str
    command: str


def find_origins(run: Run) -> dict[str, Origin]:
    """Of every trial and baseline, by id."""
    return dict(_origins(run))


def trace(rows: Sequence[dict[str, Any]], origins: Mapping[str, Origin], *, key: str = "trial") -> list[dict[str, Any]]:
    """Rows that lead to their trial: with its directory and the command that trains it again."""
    return [row | vars(origins[row[key]]) for row in rows]


def _origins(run: Run) -> Iterator[tuple[str, Origin]]:
    for key, baseline in run.baselines.items():
        yield baseline.record.id, _origin(key, baseline)
    for trial in run.trials:
        yield trial.record.id, _origin(trial.record.id, trial)


def _origin(name: str, trial: Trial) -> Origin:
    run, slash, _ = name.rpartition("/")
    return Origin(
        directory=f"{run}{slash}{trial.folder.parent.name}/{trial.folder.name}",
        command=shlex.join(["gcc-search", "train", "--like", place_of(trial.folder)]),
    )
