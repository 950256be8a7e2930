"""Several runs read as one: their trials side by side, each with the baseline of its own run.

Only runs that ask the same of the same images can be read together; what is sampled may differ, and so may seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gcc_search.analysis.stages import Tell, untold
from gcc_search.errors import ResultsError
from gcc_search.results.reader import Run, Trial, read_run
from gcc_search.results.schema import RunRecord

# Fields of run.json's space that decide what a trial's values mean.
SHARED = ("metrics", "constraints", "weights", "recipe", "start", "start_weights", "evaluation")

_IMAGES, _CODE = "images at ", "code of "
# Versions of packages that bring networks end in a digest of their code.
_OF_CODE = re.compile(r" \([0-9a-f]{8}\)$")


def read_runs(folders: Sequence[Path], tell: Tell = untold) -> Run:
    """One run as it is; several with their folders' names before each id: `first/resnet18-0003`.

    Raises:
        ResultsError: a folder is no run directory, two have the same name, or the runs cannot be compared.
    """
    runs = [read_run(folder, partial(tell, f"reading trials of {folder.name}")) for folder in folders]
    if len(runs) == 1:
        return runs[0]
    names = [run.folder.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise ResultsError(f"runs read together: names must differ, got {', '.join(names)}; rename a folder")
    for run in runs[1:]:
        _check_comparable(runs[0], run)
    return Run(
        folder=runs[0].folder.parent,
        record=_join_records([run.record for run in runs], names),
        trials=tuple(_named(trial, name) for run, name in zip(runs, names, strict=True) for trial in run.trials),
        baselines={
            f"{name}/{key}": _named(baseline, name)
            for run, name in zip(runs, names, strict=True)
            for key, baseline in run.baselines.items()
        },
        problems=tuple(problem for run in runs for problem in run.problems),
    )


def trial_directory(trial: str) -> str:
    """`trials/ID`, or `RUN/trials/ID` where several runs are read together."""
    run, _, name = trial.rpartition("/")
    return f"{run}/trials/{name}" if run else f"trials/{name}"


def _named(trial: Trial, run: str) -> Trial:
    record = trial.record
    baseline = None if record.baseline is None else f"{run}/{record.baseline}"
    return replace(trial, record=replace(record, id=f"{run}/{record.id}", baseline=baseline))


def _join_records(records: Sequence[RunRecord], names: Sequence[str]) -> RunRecord:
    command = "; ".join(record.command for record in records)
    space = records[0].space | _join_searches([record.space for record in records], names)
    return replace(records[0], name=" + ".join(names), command=command, space=space)


def _join_searches(spaces: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """How the trials were drawn and stopped, which may differ: each method (by run, too), the first early stopping."""
    methods = {name: space["method"] for name, space in zip(names, spaces, strict=True) if "method" in space}
    early = [space["early_terminate"] for space in spaces if space.get("early_terminate")]
    told = {"method": ", ".join(dict.fromkeys(methods.values())), "methods": methods} if methods else {}
    return told | ({"early_terminate": early[0]} if early else {})


def _check_comparable(first: Run, other: Run) -> None:
    ours, theirs = (dict(_decisive(run.record)) for run in (first, other))
    for name in sorted(ours.keys() | theirs.keys()):
        # What only one of the two has is no contradiction there.
        if name.startswith((_IMAGES, _CODE)) and not (name in ours and name in theirs):
            continue
        if ours.get(name) != theirs.get(name):
            rule = f"{name} must be that of {first.folder}, {ours.get(name)}"
            raise ResultsError(f"{other.folder}: {rule}, got {theirs.get(name)}; analyze the two one by one")


def _decisive(record: RunRecord) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything that must be equal."""
    for name in SHARED:
        yield from _flatten(name, record.space.get(name))
    for images in record.data:
        yield f"{_IMAGES}{images['image_size']} pixels", (images["name"], images["fingerprint"])
    for package, version in record.versions.items():
        if _OF_CODE.search(version):
            yield f"{_CODE}{package}", version


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(f"{name}.{key}", inner)
    else:
        yield name, value
