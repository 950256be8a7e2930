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
from gcc_search.objectives import METRICS, parse_constraint
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.seal import read_sealed
from gcc_search.results.tables import read_table
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
    """Text that is a constraint, nearly one, or none."""
    number = st.one_of(st.floats().map(str), st.integers().map(str), st.sampled_from([".5", "1.", "1e400", "9" * 400]))
    words = [
        draw(st.sampled_from([*METRICS, "accurracy", "Gini", "gini\u0307", ""])),
        draw(st.sampled_from([">=", "<=", ">", "=", "> ="])),
        draw(st.sampled_from(["baseline - ", "baseline + ", "baseline", "base - ", ""])) + draw(number),
    ]
    if draw(st.booleans()):
        words.insert(draw(st.integers(0, 3)), draw(st.text(max_size=5)))
    return draw(st.one_of(st.just(draw(st.sampled_from(["", " ", "\t"])).join(words)), st.text(max_size=30)))


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
    whose = "baseline's " if path.parent.parent.name == "baselines" else ""
    return Target(name=f"analyze, {whose}{path.name}", share=0.005, inputs=files, read=read)
