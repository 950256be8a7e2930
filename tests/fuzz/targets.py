"""What is fuzzed: each target makes one input and gives it to what would read it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa

from gcc_search.analysis.findings import find
from gcc_search.analysis.several import read_runs
from gcc_search.objectives import parse_constraint
from gcc_search.results.reader import read_run, read_table, read_trial
from gcc_search.results.seal import read_sealed
from gcc_search.space import load_space
from tests.fuzz.run_folders import SCHEMAS, json_files, make_run, table_files
from tests.fuzz.space_files import space_bytes


@dataclass(frozen=True, kw_only=True)
class Target:
    """`inputs` makes one, `read` reads it: anything but a `GccSearchError` that comes out is a fault.

    Args:
        share: of all the inputs of a long run.
    """

    name: str
    share: float
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], object]


def make_targets(folder: Path) -> list[Target]:
    """All targets; files are written below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    run = make_run(folder / "run")
    trial = run / "trials/resnet18-0000"
    record = json.loads((trial / "trial.json").read_bytes())
    question = json.loads((run / "run.json").read_bytes())
    tables = {name: read_sealed((trial / name).read_bytes()) for name in SCHEMAS}
    return [
        Target(name="space loader", share=0.48, inputs=space_bytes, read=_space_reader(folder / "space.yaml")),
        Target(name="constraint parser", share=0.2, inputs=constraints(), read=parse_constraint),
        Target(
            name="run.json",
            share=0.08,
            inputs=json_files(question),
            read=_swapping(run / "run.json", lambda: read_run(run)),
        ),
        Target(
            name="trial.json",
            share=0.12,
            inputs=json_files(record),
            read=_swapping(trial / "trial.json", lambda: read_trial(trial)),
        ),
        *(_table_target(trial / name, tables[name]) for name in SCHEMAS),
        *(_find_target(run, path, files) for path, files in _found_files(run, trial, question, record, tables)),
    ]


def _space_reader(path: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        path.write_bytes(content)
        space = load_space(path)
        # What is accepted stays below the folder of the runs.
        run = path.parent / "runs" / space.name
        assert run.resolve().parent == (path.parent / "runs").resolve(), space.name
        return space.settings(space.networks[0], {})

    return read


@st.composite
def constraints(draw: st.DrawFn) -> str:
    """Text that has the words of a constraint in it, or none of them."""
    words = [
        "accuracy",
        "gini",
        "baseline",
        ">=",
        "<=",
        "=",
        "+",
        "-",
        "1.0",
        "1e400",
        "1e-3",
        ".",
        "9" * 400,
        "nan",
        "²",
    ]
    return draw(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(words), max_size=8).map(" ".join)))


def _swapping(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    """`read` with other content at `path`, which is put back afterwards."""
    sound = path.read_bytes()

    def swapped(content: bytes) -> object:
        path.write_bytes(content)
        try:
            # What is printed as a warning is one more line than a user should see.
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return read()
        finally:
            path.write_bytes(sound)

    return swapped


def _table_target(path: Path, sound: pa.Table) -> Target:
    read = _swapping(path, lambda: read_table(path, SCHEMAS[path.name]))
    return Target(name=path.name, share=0.05, inputs=table_files(sound), read=read)


def _found_files(
    run: Path, trial: Path, question: dict[str, Any], record: dict[str, Any], tables: dict[str, pa.Table]
) -> list[tuple[Path, st.SearchStrategy[bytes]]]:
    baseline = run / "baselines/resnet18-base/trial.json"
    return [
        (run / "run.json", json_files(question)),
        (trial / "trial.json", json_files(record)),
        (baseline, json_files(json.loads(baseline.read_bytes()))),
        (trial / "images.parquet", table_files(tables["images.parquet"])),
    ]


def _find_target(run: Path, path: Path, files: st.SearchStrategy[bytes]) -> Target:
    read = _swapping(path, lambda: find(read_runs([run])))
    return Target(name=f"analyze, {path.parent.parent.name}/{path.name}", share=0.005, inputs=files, read=read)
