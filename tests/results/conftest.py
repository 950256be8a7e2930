from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gcc_search.results.schema import IMAGE_COLUMNS, EpochRow, RunRecord, TrialRecord


@pytest.fixture
def run_record() -> RunRecord:
    return RunRecord(
        name="demo",
        created="2026-01-02T03:04:05+00:00",
        command="gcc-search search --space demo.yaml",
        space={"metrics": [{"name": "gini", "goal": "maximize"}], "constraints": []},
        seed=7,
        versions={"gcc_search": "0.1.0"},
        host="node-1",
    )


@pytest.fixture
def trial_record() -> TrialRecord:
    return TrialRecord(
        id="t1",
        role="trial",
        status="finished",
        reason=None,
        network="resnet18",
        settings={
            "seed": 0,
            "data": {"name": "imagefolder", "root": "/data", "classes": ["bée", "ant"]},
            "explanation": {"alpha": 1e-3, "beta": 0.0, "p": 1, "distance": "ssim"},
        },
        sampled={"alpha": 1e-3},
        baseline="base",
        node="node-1",
        device="cpu",
        started="2026-01-02T03:04:05+00:00",
        updated="2026-01-02T03:14:05+00:00",
        device_seconds=600.25,
        epochs_done=2,
        validation={"gini": 0.1 + 0.2, "box_mass": None},
        test={"gini": 1 / 3},
        data_fingerprint="shapes-1",
        versions={"gcc_search": "0.1.0"},
    )


@pytest.fixture
def epoch_rows() -> list[EpochRow]:
    values = {field.name: 0.25 for field in fields(EpochRow)} | {"box_mass": None}
    return [EpochRow(**(values | {"epoch": epoch, "loss": 1 / epoch})) for epoch in (1, 2)]


@pytest.fixture
def image_columns() -> dict[str, Any]:
    of_type = {
        "int64": np.arange(3),
        "string": ["a.png", "b.png", "c.png"],
        "bool": np.array([True, False, True]),
        "double": np.array([0.25, 0.5, 0.75]),
    }
    return {column.name: of_type[str(column.type)] for column in IMAGE_COLUMNS}


@pytest.fixture
def leftovers(tmp_path: Path) -> Any:
    """Temporary files anywhere below tmp_path."""
    return lambda: [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
