"""Run directories as a search leaves them, written by the real writer, with made-up but plausible values."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gcc_search.analysis.report import Analysis, analyze
from gcc_search.results.schema import EpochRow, RunRecord, TrialRecord
from gcc_search.results.writer import write_epochs, write_heatmaps, write_images, write_run, write_trial

METRICS = [
    {"name": "accuracy", "goal": "maximize"},
    {"name": "corrected_consistency", "goal": "maximize"},
    {"name": "gini", "goal": "maximize"},
]
NUM_IMAGES = 6


class RunBuilder:
    """Writes one run directory, trial by trial; every method returns what it wrote.

    `images` overrides columns of images.parquet, 6 plain images where nothing is given.
    """

    def __init__(self, folder: Path, *, constraints: tuple[str, ...] = ("accuracy >= baseline - 1.0",)) -> None:
        self.folder = folder
        space = {"metrics": METRICS, "constraints": list(constraints)}
        self.record = RunRecord(
            name=folder.name,
            created="2026-01-02T03:04:05+00:00",
            command="gcc-search search --space demo.yaml",
            space=space,
            seed=7,
            versions={"gcc_search": "0.1.0"},
            host="node-1",
        )
        write_run(folder, self.record)

    def baseline(
        self, network: str = "resnet18", *, accuracy: float = 94.0, key: str | None = None, **values: Any
    ) -> TrialRecord:
        status, images = values.pop("status", "finished"), values.pop("images", None)
        record = _record(key or f"{network}-base", network, status, accuracy=accuracy, role="baseline", **values)
        return self._write("baselines", record, images)

    def trial(self, name: str, network: str = "resnet18", status: str = "finished", **values: Any) -> TrialRecord:
        baseline, images = values.pop("baseline", f"{network}-base"), values.pop("images", None)
        return self._write("trials", replace(_record(name, network, status, **values), baseline=baseline), images)

    def _write(self, parent: str, record: TrialRecord, images: dict[str, Any] | None) -> TrialRecord:
        folder = self.folder / parent / record.id
        write_trial(folder, record)
        write_epochs(folder, [_epoch(epoch + 1, record) for epoch in range(record.epochs_done)])
        if record.test is not None:
            write_images(folder, _images(images or {}))
            write_heatmaps(folder, _heatmaps(record))
        return record


def _record(
    name: str,
    network: str,
    status: str,
    *,
    accuracy: float = 93.5,
    test_accuracy: float | None = None,
    corrected: float | None = 0.4,
    gini: float | None = 0.45,
    box_mass: float | None = None,
    mass_half: float | None = None,
    constant: float | None = None,
    alpha: float = 0.0,
    beta: float = 0.0,
    p: float = 1.0,
    data: str = "shapes",
    seed: int = 0,
    epochs: int = 2,
    role: Any = "trial",
    sampled: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    fingerprint: str = "shapes-1",
) -> TrialRecord:
    """Validation values as given; the test split says the same unless `test_accuracy` differs.

    Args:
        settings: sections that replace those made of the other arguments.
    """
    scored = status in ("finished", "collapsed")
    consistency = None if corrected is None else 0.65 + 0.35 * corrected
    measured = {
        "corrected_consistency": corrected,
        "consistency": consistency,
        "gini": gini,
        "box_mass": box_mass,
        "mass_half": mass_half,
        "degenerate_fraction": constant,
    }
    validation = {"accuracy_points": accuracy, **measured}
    test = {"accuracy_points": accuracy if test_accuracy is None else test_accuracy, **measured, "iauc": 0.81}
    return TrialRecord(
        id=name,
        role=role,
        status=status,  # type: ignore[arg-type]
        reason=None if status == "finished" else f"made {status}",
        network=network,
        settings={
            "network": network,
            "data": {"name": data},
            "explanation": {"alpha": alpha, "beta": beta, "p": p, "distance": "ssim"},
            "seed": seed,
            **(settings or {}),
        },
        sampled=sampled or {},
        node="node-1",
        device="cpu",
        started="2026-01-02T03:04:05+00:00",
        updated="2026-01-02T03:14:05+00:00",
        device_seconds=600.0,
        epochs_done=epochs,
        validation=validation if scored else None,
        test=test if scored else None,
        data_fingerprint=fingerprint,
        versions={"gcc_search": "0.1.0"},
    )


def _epoch(epoch: int, record: TrialRecord) -> EpochRow:
    validation = record.validation or {}
    return EpochRow(
        epoch=epoch,
        lr=1e-3,
        loss=0.5,
        cross_entropy=0.4,
        consistency_loss=None,
        sparsity_loss=None,
        accuracy_points=validation.get("accuracy_points") or 0.0,
        consistency=validation.get("consistency"),
        chance=0.65,
        corrected_consistency=validation.get("corrected_consistency"),
        correlation=0.7,
        gini=validation.get("gini"),
        mass_half=0.2,
        degenerate_fraction=0.0,
        box_mass=None,
        pointing=None,
        train_seconds=20.0,
        evaluation_seconds=3.0,
        peak_memory_bytes=1e9,
    )


def _images(given: dict[str, Any]) -> dict[str, Any]:
    num_images = len(next(iter(given.values()), range(NUM_IMAGES)))
    half, missing = np.full(num_images, 0.5), np.full(num_images, np.nan)
    measures = (
        "confidence",
        "consistency",
        "chance",
        "correlation",
        "gini",
        "mass_half",
        "norm_p0",
        "norm_p1",
        "norm_p2",
        "own_consistency",
        "moved_correct",
    )
    return {
        "index": np.arange(num_images),
        "name": [f"square/{i}.png" for i in range(num_images)],
        "label": np.zeros(num_images, dtype=np.int64),
        "predicted": np.zeros(num_images, dtype=np.int64),
        "correct": np.ones(num_images, dtype=bool),
        "degenerate": np.zeros(num_images, dtype=bool),
        **dict.fromkeys(measures, half),
        **dict.fromkeys(("iauc", "dauc", "iauc_start", "iauc_end", "crop_mass"), half),
        **dict.fromkeys(("box_mass", "pointing", "box_share"), missing),
        **given,
    }


def _heatmaps(record: TrialRecord) -> dict[str, Any]:
    """Two images, half red and half green, with maps that depend on the trial's name."""
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    picture[:, :8, 0] = picture[:, 8:, 1] = 200
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG")
    maps = np.random.default_rng(sum(record.id.encode())).normal(size=(4, 9)).tolist()
    return {
        "index": [0, 3],
        "name": ["square/0.png", "square/3.png"],
        "label": [0, 1],
        "predicted": [0, 0],
        "confidence": [0.5, 0.75],
        "consistency": [0.5, 0.25],
        "picture": [content.getvalue()] * 2,
        "rows": [3, 3],
        "map": maps[:2],
        "moved_map": maps[2:],
        "crop": [[0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 0.5, 0.5]],
        "flipped": [True, False],
    }


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunBuilder]:
    """Makes an empty run called `demo` below tmp_path/runs."""
    return lambda **options: RunBuilder(tmp_path / "runs" / "demo", **options)


@pytest.fixture
def mixed_run(new_run: Callable[..., RunBuilder]) -> RunBuilder:
    return fill(new_run())


@pytest.fixture(scope="session")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """What `analyze` says of the mixed run; for tests that only look."""
    return analyze(fill(RunBuilder(tmp_path_factory.mktemp("runs") / "demo")).folder)


def fill(run: RunBuilder) -> RunBuilder:
    """Two networks and every status. By hand: t1, t2 and r1 are feasible; t3 beats them on test and is not."""
    run.baseline("resnet18", accuracy=94.0)
    run.baseline("resnet50", accuracy=96.0)
    run.trial("t1", accuracy=93.5, corrected=0.40, gini=0.50, alpha=1e-3, beta=2.5e-4, sampled={"lr": 0.01})
    run.trial("t2", accuracy=93.0, corrected=0.50, gini=0.40, alpha=3.0, beta=0.05)
    run.trial("t3", accuracy=92.9, corrected=0.90, gini=0.90, test_accuracy=99.0)
    run.trial("t4", status="collapsed", accuracy=20.0, corrected=0.01, gini=0.95)
    run.trial("t5", status="diverged")
    run.trial("t6", status="stopped")
    run.trial("t7", status="running")
    run.trial("r1", "resnet50", accuracy=96.5, corrected=0.35, gini=0.45)
    run.trial("r2", "resnet50", status="failed")
    return run
