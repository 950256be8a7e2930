"""A run directory of any size, for timing the analysis: real records and seals around made-up, plausible numbers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from gcc_search.results.reader import HEATMAPS_FILE
from gcc_search.results.schema import EPOCHS, HEATMAPS, IMAGE_COLUMNS, IMAGES, EpochRow, RunRecord, TrialRecord
from gcc_search.results.seal import sealed_parquet
from gcc_search.results.writer import write_run, write_trial
from gcc_search.settings import TrialSettings
from gcc_search.training.examples import NUM_EXAMPLES, PICTURE_QUALITY, PICTURE_SIDE

NETWORKS = ("convnext_tiny", "resnet18", "resnet50")
SEEDS = (0, 1, 2)
EPOCHS_EACH = 20
# Rows and columns of a map, as ResNet's at 224 pixels.
MAP_SIDE = 7
# So many different tables, sealed once each; every trial has a file of its own with one of them.
VARIANTS = 8
# Besides each so many trials with a scored test split stands one that diverged, was stopped or failed.
UNSCORED_EVERY = 6
UNSCORED = ("diverged", "stopped", "failed")
# As if ten hours had passed between the first trial and the last, whatever their number.
STARTED = np.datetime64("2026-01-02T00:00:00")
SPACE: dict[str, Any] = {
    "name": "large",
    "networks": list(NETWORKS),
    "metrics": [
        {"name": "corrected_consistency", "goal": "maximize"},
        {"name": "gini", "goal": "maximize"},
        {"name": "accuracy", "goal": "maximize"},
    ],
    "constraints": ["accuracy >= baseline - 1.0"],
}


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Sealed files, to be written as they are: of `VARIANTS` networks each."""

    epochs: tuple[bytes, ...]
    images: tuple[bytes, ...]
    heatmaps: tuple[bytes, ...]


def write_large_run(folder: Path, *, trials: int, images: int) -> None:
    """`trials` trials with `images` scored test images each, a sixth more without, and the baselines.

    A trial's tables are another trial's too, and do not add up to its record: the analysis never compares the two.
    """
    generator = np.random.default_rng(0)
    write_run(folder, _run_record())
    tables = Tables(
        epochs=tuple(sealed_parquet(_epochs(generator)) for _ in range(VARIANTS)),
        images=tuple(sealed_parquet(_images(images, generator)) for _ in range(VARIANTS)),
        heatmaps=tuple(sealed_parquet(table) for table in _heatmaps(images, np.random.default_rng(0))),
    )
    records = [*_baselines(generator), *_trials(trials, generator)]
    # Records go through the writer, which waits for the disk.
    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(_write, folder, n, record, tables) for n, record in enumerate(records)]
        for one in written:
            one.result()


def _write(folder: Path, number: int, record: TrialRecord, tables: Tables) -> None:
    place = folder / ("baselines" if record.role == "baseline" else "trials") / record.id
    write_trial(place, record)
    (place / "epochs.parquet").write_bytes(tables.epochs[number % VARIANTS])
    if record.test is not None:
        (place / "images.parquet").write_bytes(tables.images[number % VARIANTS])
        (place / HEATMAPS_FILE).write_bytes(tables.heatmaps[number % VARIANTS])


def _run_record() -> RunRecord:
    return RunRecord(
        name="large",
        created=f"{STARTED}+00:00",
        command="gcc-search --space large.yaml",
        space=SPACE,
        seed=0,
        data=[{"image_size": 224, "name": "caltech101", "fingerprint": "made-up"}],
        versions={"gcc_search": "0.1.0"},
        host="node-1",
    )


def _baselines(generator: np.random.Generator) -> Iterator[TrialRecord]:
    for network in NETWORKS:
        for seed in SEEDS:
            values = _measured(0.0, 0.0, generator)
            yield _record(f"{network}-base-{seed}", network, "finished", seed=seed, values=values, role="baseline")


def _trials(scored: int, generator: np.random.Generator) -> Iterator[TrialRecord]:
    total = scored + scored // UNSCORED_EVERY
    statuses: list[Any] = ["scored"] * scored + [UNSCORED[n % len(UNSCORED)] for n in range(total - scored)]
    generator.shuffle(statuses)
    for number, status in enumerate(statuses):
        network, seed = NETWORKS[number % len(NETWORKS)], int(generator.choice(SEEDS))
        alpha, beta = 10 ** generator.uniform((-3.0, -4.0), (1.0, 0.0))
        sampled = {"alpha": float(alpha), "beta": float(beta), "p": float(2 ** generator.uniform(-1, 1)), "seed": seed}
        failed = generator.random() < 1 / (1 + np.exp(4 - np.log(1 + alpha) - 5 * beta))
        values = None if status != "scored" else _measured(alpha, beta, generator, failed=failed)
        told = status if status != "scored" else "collapsed" if failed else "finished"
        updated = STARTED + np.timedelta64(36_000 * number // total, "s")
        yield _record(
            f"{network}-{number:05d}", network, told, seed=seed, values=values, sampled=sampled, updated=str(updated)
        )


def _measured(
    alpha: float, beta: float, generator: np.random.Generator, *, failed: bool = False
) -> dict[str, float | None]:
    """Means of a split: more alpha, more consistent; more beta, sparser; both cost accuracy."""
    noise = generator.normal(size=4)
    accuracy = 94 - 0.25 * alpha - 4 * beta + 0.5 * noise[0]
    corrected = 0.35 + 0.05 * np.log1p(10 * alpha) + 0.04 * noise[1]
    gini = 0.4 + 0.12 * np.log1p(5 * beta) - 0.02 * np.log1p(10 * alpha) + 0.03 * noise[2]
    if failed:
        accuracy, corrected, gini = 40 + 10 * noise[0], 0.02 * abs(noise[1]), 0.9 + 0.02 * noise[2]
    chance = 0.66 + 0.01 * noise[3]
    told = {"consistency": corrected * (1 - chance) + chance, "chance": chance, "corrected_consistency": corrected}
    others = {"correlation": corrected + 0.4, "mass_half": 0.5 - gini / 2, "box_mass": 0.3 + gini / 4, "pointing": 0.7}
    return {name: float(value) for name, value in {"accuracy_points": accuracy, "gini": gini, **told, **others}.items()}


def _record(
    name: str,
    network: str,
    status: Any,
    *,
    seed: int,
    values: dict[str, float | None] | None,
    sampled: dict[str, Any] | None = None,
    role: Any = "trial",
    updated: str = str(STARTED),
) -> TrialRecord:
    sampled = sampled or {}
    explanation = {key: value for key, value in sampled.items() if key != "seed"}
    settings = TrialSettings.model_validate(
        {"network": network, "data": {"name": "caltech101"}, "explanation": explanation, "seed": seed}
    )
    return TrialRecord(
        id=name,
        role=role,
        status=status,
        reason=None if status == "finished" else f"made up as {status}",
        network=network,
        settings=settings.model_dump(mode="json"),
        sampled=sampled,
        baseline=None if role == "baseline" else f"{network}-base-{seed}",
        node="node-1",
        device="cpu",
        started=f"{STARTED}+00:00",
        updated=f"{updated}+00:00",
        device_seconds=600.0,
        epochs_done=EPOCHS_EACH,
        validation=values,
        test=None if values is None else values | {"iauc": 0.8, "dauc": 0.2, "confidence": 0.9},
        data_fingerprint="made-up",
        versions={"gcc_search": "0.1.0"},
    )


def _epochs(generator: np.random.Generator) -> pa.Table:
    names = [field.name for field in fields(EpochRow)]
    drawn = generator.random((EPOCHS_EACH, len(names)))
    rows = [dict(zip(names, row.tolist(), strict=True)) | {"epoch": n + 1} for n, row in enumerate(drawn)]
    return pa.Table.from_pylist(rows, schema=EPOCHS)


def _images(number: int, generator: np.random.Generator) -> pa.Table:
    """As many digits as real measures have: made-up round numbers would pack into fewer bytes."""
    of_type: dict[str, Callable[[], Any]] = {
        "int64": lambda: np.arange(number),
        "string": lambda: [_name(index) for index in range(number)],
        "bool": lambda: generator.random(number) < 0.93,
        "double": lambda: generator.beta(8, 3, number),
    }
    columns = {column.name: of_type[str(column.type)]() for column in IMAGE_COLUMNS}
    arrays = [pa.array(columns[field.name], type=field.type) for field in IMAGES]
    return pa.Table.from_arrays(arrays, schema=IMAGES)


def _heatmaps(number: int, generator: np.random.Generator) -> Iterator[pa.Table]:
    """What `VARIANTS` networks make of the same examples of `number` test images, under the same transforms."""
    count = min(NUM_EXAMPLES, number)
    chosen = np.sort(generator.permutation(number)[:count]).tolist()
    extents, starts = generator.uniform(0.3, 1, (count, 2)), generator.random((count, 2))
    shown = {
        "index": chosen,
        "name": [_name(index) for index in chosen],
        "label": [index % 101 for index in chosen],
        "picture": [_picture(generator) for _ in chosen],
        "rows": [MAP_SIDE] * count,
        "crop": np.concatenate([starts * (1 - extents), extents], axis=1).tolist(),
        "flipped": (generator.random(count) < 0.5).tolist(),
    }
    for _ in range(VARIANTS):
        made = {
            "predicted": generator.integers(101, size=count),
            "confidence": generator.random(count),
            "consistency": generator.beta(8, 3, count),
            "map": generator.normal(size=(count, MAP_SIDE**2)).tolist(),
            "moved_map": generator.normal(size=(count, MAP_SIDE**2)).tolist(),
        }
        yield pa.Table.from_pydict(shown | made, schema=HEATMAPS)


def _picture(generator: np.random.Generator) -> bytes:
    """A JPEG of as many bytes as a photograph's, some 6 kB."""
    coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(coarse).resize((PICTURE_SIDE,) * 2).save(content, "JPEG", quality=PICTURE_QUALITY)
    return content.getvalue()


def _name(index: int) -> str:
    return f"class_{index % 101:03d}/image_{index:04d}.jpg"
