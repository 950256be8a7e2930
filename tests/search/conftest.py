"""A small real search, run once: real Ray, real SQLite, real files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from gcc_search.search.launch import SearchResult, run_search
from gcc_search.search.readiness import SearchOptions, prepare_search
from gcc_search.space import SearchSpace

TINY: dict[str, Any] = {
    "name": "tiny",
    "networks": ["convnet_small"],
    "weights": "baseline",
    "start": {"epochs": 2, "lr": 0.05},
    "data": {"name": "shapes", "num_images": 120},
    "recipe": {"epochs": 2, "lr": 0.01, "image_size": 32},
    "evaluation": {"insertion_images": 2},
    "parameters": {
        "alpha": {"distribution": "log_uniform_values", "min": 0.01, "max": 10},
        "beta": {"distribution": "log_uniform_values", "min": 0.01, "max": 1},
    },
    "metrics": [{"name": "corrected_consistency"}, {"name": "gini"}],
    "constraints": ["accuracy >= baseline - 60"],
    "run_cap": 3,
}


def make_space(**changes: Any) -> SearchSpace:
    return SearchSpace.model_validate(TINY | changes)


def run_space(space: SearchSpace, out: Path) -> tuple[SearchResult, str]:
    """The search's result and all that it printed."""
    console = Console(file=io.StringIO(), width=120)
    prepared = prepare_search(space, SearchOptions(out=out, gpus=0, command="gcc-search --space tiny.yaml"), console)
    result = run_search(prepared, console)
    return result, console.file.getvalue()  # type: ignore[attr-defined]
