"""What a run directory holds: every column with unit, direction, meaning and what a missing value says.

One place defines them, `writer.py` writes them, `reader.py` checks them on reading. How each is measured: README,
"What is measured".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = 2
READ_VERSIONS = (1, SCHEMA_VERSION)
"""Tables of version 1 have none of `SINCE_2`, and no value of them when read."""
NETWORK_FILE = "network.safetensors"
# Of a trial's settings: whether activations are kept or computed again, and when it is given up.
CHANGE_NO_NUMBER = ("activation_checkpointing", "collapse")
# Of a trial's explanation: what older records lack, and what it was then. Baselines' names do not tell it where it is.
NOTED_LATER: dict[str, Any] = {"photometric": 0.0, "opposing": "kept"}

Status = Literal["running", "finished", "stopped", "diverged", "collapsed", "interrupted", "failed"]
Role = Literal["trial", "baseline", "start"]
FailureKind = Literal["memory", "crash", "error"]
Direction = Literal["up", "down", "none"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One Parquet column. `direction` says which way is better; `missing` what a null means ("never": cannot be)."""

    name: str
    type: pa.DataType
    unit: str
    direction: Direction
    meaning: str
    missing: str = "never"

    def to_field(self) -> pa.Field[Any]:
        told = {"unit": self.unit, "direction": self.direction, "meaning": self.meaning, "missing": self.missing}
        return pa.field(self.name, self.type, nullable=self.missing != "never", metadata=told)


def _measure(name: str, direction: Direction, meaning: str, *, unit: str = "1", missing: str = "never") -> Column:
    return Column(name=name, type=pa.float64(), unit=unit, direction=direction, meaning=meaning, missing=missing)


CORRECTED = "C* = (consistency - chance) / (1 - chance); of a constant map chance counts as its consistency"
NO_MAPS = "the loss was not finite"
NO_REGIONS = "the image has neither box nor mask"
NO_MASS = f"{NO_REGIONS}; in files of earlier versions, or its positive map is empty"
ON_OBJECT = "share of the positive map inside box or mask; 0 where that map is empty"
BEFORE_2 = "not measured yet by the gcc-search that wrote it"
NOT_INSERTED = "not among the images insertion and deletion were run on"

EPOCH_COLUMNS = (
    Column(name="epoch", type=pa.int64(), unit="epoch", direction="none", meaning="1 is the first"),
    _measure("lr", "none", "learning rate during the epoch"),
    _measure("loss", "down", "mean of L_CE + alpha L_C + beta L_S over the training images (equation 4)"),
    _measure("cross_entropy", "down", "mean L_CE (equation 1)", unit="nat"),
    _measure("consistency_loss", "down", "mean L_C (equation 2)", missing="one-view training: alpha is 0"),
    _measure("sparsity_loss", "down", "mean L_S (equation 3)", missing="beta is 0"),
    _measure("accuracy_points", "up", "top-1 on the validation split", unit="points, 0 to 100"),
    _measure("consistency", "up", "mean SSIM of t(M(x)) and M(t(x)), validation split", missing=NO_MAPS),
    _measure("chance", "none", "mean SSIM of t(M(x')) and M(t(x)), x' another image", missing=NO_MAPS),
    _measure("corrected_consistency", "up", CORRECTED, missing=NO_MAPS),
    _measure("correlation", "up", "mean Pearson correlation of t(M(x)) and M(t(x))", missing=NO_MAPS),
    _measure("gini", "up", "mean Gini index of the positive map at its own resolution", missing=NO_MAPS),
    _measure("mass_half", "down", "mean share of heatmap pixels above 0.5", missing=NO_MAPS),
    _measure("degenerate_fraction", "down", "share of images with a constant map", missing=NO_MAPS),
    _measure("box_mass", "up", f"mean {ON_OBJECT}", missing="no boxes or masks"),
    _measure("pointing", "up", "share of images whose map peaks inside box or mask", missing="no boxes or masks"),
    _measure("train_seconds", "down", "training part of the epoch", unit="s"),
    _measure("evaluation_seconds", "down", "validation part of the epoch", unit="s"),
    _measure("peak_memory_bytes", "down", "peak of the device's allocator (CPU: of the process)", unit="B"),
)

IMAGE_COLUMNS = (
    Column(name="index", type=pa.int64(), unit="image", direction="none", meaning="position in the test split"),
    Column(name="name", type=pa.string(), unit="path", direction="none", meaning="image, below the data set's folder"),
    Column(name="label", type=pa.int64(), unit="class", direction="none", meaning="true class"),
    Column(name="predicted", type=pa.int64(), unit="class", direction="none", meaning="class with the highest logit"),
    _measure("confidence", "none", "softmax probability of the predicted class"),
    Column(name="correct", type=pa.bool_(), unit="0 or 1", direction="up", meaning="predicted is label"),
    _measure("consistency", "up", "SSIM of t(M(x)) and M(t(x)), t fixed by (evaluation seed, index)", unit="-1 to 1"),
    _measure("chance", "none", "SSIM of t(M(x')) and M(t(x)), x' another image, M(x') not constant", unit="-1 to 1"),
    _measure("correlation", "up", "Pearson correlation of t(M(x)) and M(t(x))", unit="-1 to 1"),
    _measure("gini", "up", "Gini index of the positive map at its own resolution", unit="0 to 1"),
    _measure("mass_half", "down", "share of heatmap pixels above 0.5", unit="0 to 1"),
    _measure("norm_p0", "down", "number of heatmap pixels that are not 0", unit="pixel"),
    _measure("norm_p1", "down", "1-norm of the heatmap as one vector"),
    _measure("norm_p2", "down", "2-norm of the heatmap as one vector"),
    _measure("iauc", "up", "insertion AUC (RISE, 28 steps)", unit="0 to 1", missing=NOT_INSERTED),
    _measure("dauc", "down", "deletion AUC (RISE, 28 steps)", unit="0 to 1", missing=NOT_INSERTED),
    _measure("iauc_start", "none", "probability on the blurred image", unit="0 to 1", missing=NOT_INSERTED),
    _measure("iauc_end", "none", "probability on the whole image", unit="0 to 1", missing=NOT_INSERTED),
    _measure("box_mass", "up", ON_OBJECT, unit="0 to 1", missing=NO_MASS),
    _measure("pointing", "up", "the map peaks inside box or mask", unit="0 or 1", missing=NO_REGIONS),
    _measure("box_share", "none", "area share of box or mask: what a uniform map scores", missing=NO_REGIONS),
    Column(name="degenerate", type=pa.bool_(), unit="0 or 1", direction="down", meaning="the map is constant"),
    _measure("crop_mass", "none", "share of the positive map inside t's crop", unit="0 to 1", missing="the map is 0"),
    _measure(
        "own_consistency",
        "up",
        "SSIM of t(M(x)) and M(t(x)), each for the class predicted on its own view",
        unit="-1 to 1",
        missing=BEFORE_2,
    ),
    _measure("moved_correct", "up", "the class predicted on t(x) is label", unit="0 or 1", missing=BEFORE_2),
)
SINCE_2 = ("own_consistency", "moved_correct")

HEATMAP_COLUMNS = (
    Column(name="index", type=pa.int64(), unit="image", direction="none", meaning="position in the test split"),
    Column(name="name", type=pa.string(), unit="path", direction="none", meaning="image, below the data set's folder"),
    Column(name="label", type=pa.int64(), unit="class", direction="none", meaning="true class"),
    Column(name="predicted", type=pa.int64(), unit="class", direction="none", meaning="class with the highest logit"),
    _measure("confidence", "none", "softmax probability of the predicted class"),
    _measure("consistency", "up", "SSIM of t(M(x)) and M(t(x))", unit="-1 to 1"),
    Column(
        name="picture", type=pa.binary(), unit="JPEG", direction="none", meaning="x as the network sees it, smaller"
    ),
    Column(name="rows", type=pa.int64(), unit="cell", direction="none", meaning="rows of the map; it is square"),
    Column(name="map", type=pa.list_(pa.float32()), unit="1", direction="none", meaning="M(x), signed, row by row"),
    Column(name="moved_map", type=pa.list_(pa.float32()), unit="1", direction="none", meaning="M(t(x)), row by row"),
    Column(
        name="crop",
        type=pa.list_(pa.float64()),
        unit="share of the frame",
        direction="none",
        meaning="t's crop of x: top, left, height, width",
    ),
    Column(name="flipped", type=pa.bool_(), unit="0 or 1", direction="none", meaning="t mirrors after cropping"),
)

PAIR_COLUMNS = (
    Column(name="index", type=pa.int64(), unit="image", direction="none", meaning="position in the split"),
    Column(name="name", type=pa.string(), unit="path", direction="none", meaning="image, below the data set's folder"),
    Column(name="transform", type=pa.string(), unit="name", direction="none", meaning="of COSE's, or random weights"),
    _measure(
        "amount",
        "none",
        "how far the transform goes",
        unit="share of the side, degree, or factor - 1",
        missing="it has no amount",
    ),
    Column(name="label", type=pa.int64(), unit="class", direction="none", meaning="true class"),
    Column(name="predicted", type=pa.int64(), unit="class", direction="none", meaning="class with the highest logit"),
    Column(name="predicted_then", type=pa.int64(), unit="class", direction="none", meaning="the same, transformed"),
    _measure(
        "similarity",
        "none",
        "SSIM of M(x) and M(t(x)) moved back, window 5; better up where both predictions are the label",
        unit="-1 to 1",
    ),
)


def _schema(kind: str, columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema(
        [column.to_field() for column in columns],
        metadata={"gcc_search.table": kind, "gcc_search.schema_version": str(SCHEMA_VERSION)},
    )


EPOCHS = _schema("epochs", EPOCH_COLUMNS)
IMAGES = _schema("images", IMAGE_COLUMNS)
HEATMAPS = _schema("heatmaps", HEATMAP_COLUMNS)
PAIRS = _schema("cose pairs", PAIR_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One row of epochs.parquet; fields, units and order are `EPOCH_COLUMNS`."""

    epoch: int
    lr: float
    loss: float
    cross_entropy: float
    consistency_loss: float | None
    sparsity_loss: float | None
    accuracy_points: float
    consistency: float | None
    chance: float | None
    corrected_consistency: float | None
    correlation: float | None
    gini: float | None
    mass_half: float | None
    degenerate_fraction: float | None
    box_mass: float | None
    pointing: float | None
    train_seconds: float
    evaluation_seconds: float
    peak_memory_bytes: float

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """trial.json: what was trained, how it ended, and where. `validation` is the last epoch, `test` the split's means.

    Args:
        settings: `TrialSettings` as JSON.
        sampled: what the sampler chose, by parameter name; empty for a baseline.
        baseline: folder name below baselines/ that this trial is compared to; None for baselines themselves.
        baseline_epochs: how many epochs of its baseline were there when its rows were last compared with them; None for
            one that did not end so, for baselines, and in records from before it was noted.
        threads: torch's on the CPU, which decide the order of sums; None in records from before they were noted.
        device_seconds: wall seconds during which the trial held its device, over all its attempts.
        attempts: how often it was begun or gone on with: after a stop, after a failure.
        failures: how attempts failed, in order. `memory`: there was too little; `crash`: its worker died or the machine
            had a fault, other images or no weights; `error`: it would fail so each time.
        test: means over the test split, by column of images.parquet, with `degenerate` as `degenerate_fraction`, plus
            `accuracy_points` and `corrected_consistency`; None unless the test split was scored.
        network_sha256: digest of network.safetensors; None where there is none, and in older records.
    """

    id: str
    role: Role
    status: Status
    reason: str | None
    network: str
    settings: dict[str, Any]
    sampled: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    baseline_epochs: int | None = None
    node: str
    device: str
    started: str
    updated: str
    device_seconds: float
    epochs_done: int
    attempts: int = 1
    threads: int | None = None
    failures: list[FailureKind] = field(default_factory=list)
    validation: dict[str, float | None] | None = None
    test: dict[str, float | None] | None = None
    network_sha256: str | None = None
    data_fingerprint: str
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION

    @property
    def would_fail_again(self) -> bool:
        """Whether it diverged without alpha and beta, or never ran because its baseline or start network did."""
        has_diverged = self.role != "trial" and self.status == "diverged"
        return has_diverged or " it needs diverged: " in (self.reason or "")

    def validated(self, column: str) -> float | None:
        """A column's value on the validation split, None where it was not measured."""
        return (self.validation or {}).get(column)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """run.json: what was asked for, on which images, by whom it can be repeated.

    Args:
        data: for each image size the data set's name, fingerprint, classes, images by split, what was unreadable, and
            which files are in two splits.
        packing: how many trials share a GPU, and what was measured for it, as `search.packing.Packing` has it; None
            where nothing was, and in records from before it could be.
    """

    name: str
    created: str
    command: str
    space: dict[str, Any]
    seed: int
    data: list[dict[str, Any]] = field(default_factory=list)
    packing: dict[str, Any] | None = None
    versions: dict[str, str]
    host: str
    schema_version: int = SCHEMA_VERSION
