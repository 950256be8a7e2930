"""Each measure of a baseline and of a trained network on the test split, and how surely they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gcc_search.analysis.bootstrap import (
    LEVEL,
    Floats,
    mcnemar_p,
    percentile_interval,
    resampled_means,
    standard_error,
)
from gcc_search.analysis.paired_images import EARNED, MEASURED, PairedImages, with_earned
from gcc_search.analysis.pairing import Pair
from gcc_search.results.schema import Direction

# Above this mean chance level C* is 0 by definition: maps that ignore the image.
CHANCE_LIMIT = 1 - 1e-6
# Intervals from resampling fewer images are too narrow. Where nothing differs (two networks changing places, image by
# image, on Caltech101) they leave out 0 in 17 % of cases with 5 images, in 11 and 17 with 8, in 5 and 8 with 20 (C*,
# Gini), where 5 % is meant.
FEWEST_IMAGES = 20

Verdict = Literal["apart", "within noise", "too few images"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One line of the table, from `columns` of images.parquet (two for C*) or, without it, from trial.json's `test`.

    Args:
        scale, recorded_scale: from the column's, from trial.json's unit to `unit`.
        untold: the mean that needs no line, where all networks have it.
        is_share: whether each image has it or has it not.
    """

    name: str
    columns: tuple[str, ...]
    unit: str
    better: Direction
    recorded: str
    scale: float = 1.0
    recorded_scale: float = 1.0
    untold: float | None = None
    is_share: bool = False

    def is_told(self, *means: float) -> bool:
        """Whether these means, in the column's unit, are worth a line."""
        return any(mean != self.untold for mean in means)


def _mean(name: str, column: str, unit: str, better: Direction) -> Measure:
    return Measure(name=name, columns=(column,), unit=unit, better=better, recorded=column)


ACCURACY = Measure(
    name="top-1 accuracy",
    columns=("correct",),
    unit="points",
    better="up",
    recorded="accuracy_points",
    scale=100,
    is_share=True,
)
MEASURES = (
    ACCURACY,
    replace(_mean("accuracy on t(x)", "moved_correct", "points", "up"), scale=100, recorded_scale=100, is_share=True),
    replace(
        _mean("consistency x 100", "own_consistency", "as in the paper's Table 1", "up"), scale=100, recorded_scale=100
    ),
    _mean("consistency", "consistency", "SSIM, -1 to 1", "up"),
    Measure(name="C*", columns=(EARNED, "chance"), unit="up to 1", better="up", recorded="corrected_consistency"),
    Measure(
        name="constant maps",
        columns=("degenerate",),
        unit="share, 0 to 1",
        better="down",
        recorded="degenerate_fraction",
        untold=0.0,
        is_share=True,
    ),
    _mean("insertion AUC", "iauc", "0 to 1", "up"),
    _mean("deletion AUC", "dauc", "0 to 1", "down"),
    _mean("Gini", "gini", "0 to 1", "up"),
    _mean("box mass", "box_mass", "0 to 1", "up"),
)


# For people, beside the consistency of both maps for one class; the files that programs read keep the name.
_LABELS = {"consistency x 100": "own consistency x100"}


def label_of(measure: str) -> str:
    """What a measure is called on the screen, in the report and on cards."""
    return _LABELS.get(measure, measure)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A measure of both networks. None is "not known": without images.parquet there are means only.

    Args:
        num_images: test images that both networks have the measure of; all values are over these.
        baseline_se, trained_se: standard errors of the means.
        difference: trained - baseline.
        low, high: its 95 % percentile interval over 10,000 paired resamples of the images.
        mcnemar_p: of a measure that each image has or has not, the exact p-value of that many more having it.
    """

    measure: str
    unit: str
    better: Direction
    num_images: int | None = None
    baseline: float
    baseline_se: float | None = None
    trained: float
    trained_se: float | None = None
    difference: float
    low: float | None = None
    high: float | None = None
    mcnemar_p: float | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Whether the test images tell the two networks apart; None without an interval.

        The interval leaves out 0; of shares, where few images differ and it is too narrow, McNemar's test says so.
        Noise is that of the images. Of 28 pairs of networks on `shapes` that differ in the seed alone, 5 are told apart
        in C*, 16 in Gini: `seeds.over_seeds` is what knows of seeds.
        """
        if self.low is None or self.high is None:
            return None
        if (self.num_images or 0) < FEWEST_IMAGES:
            return "too few images"
        is_apart = self.low > 0 or self.high < 0 if self.mcnemar_p is None else self.mcnemar_p < 1 - LEVEL
        return "apart" if is_apart else "within noise"


def lines_from_records(pair: Pair) -> tuple[Line, ...]:
    """Means only, as trial.json has them; measures that one of the two lacks are left out."""
    lines = []
    for measure in MEASURES:
        before, after = ((record.test or {}).get(measure.recorded) for record in (pair.baseline, pair.trial))
        if before is not None and after is not None and measure.is_told(before, after):
            lines.append(_line(measure, before * measure.recorded_scale, after * measure.recorded_scale))
    return tuple(lines)


def _line(measure: Measure, baseline: float, trained: float) -> Line:
    return Line(
        measure=measure.name,
        unit=measure.unit,
        better=measure.better,
        baseline=baseline,
        trained=trained,
        difference=trained - baseline,
    )


def lines_from_images(images: PairedImages) -> tuple[Line, ...]:
    """Means, standard errors and intervals; measures that no image has are left out."""
    resampled = _resample(images)
    return tuple(
        _line_with_errors(measure, images, [resampled[column] for column in measure.columns])
        for measure in MEASURES
        if images.is_known(measure.columns[0]).any()
        and measure.is_told(*images.both(measure.columns[0]).mean(axis=0).tolist())
    )


def _resample(images: PairedImages) -> dict[str, Floats]:
    """Resampled means of each column as (resamples, 2). Columns that the same images have are drawn together."""
    drawn = MEASURED if images.any_constant else [name for name in MEASURED if name not in ("degenerate", EARNED)]
    masks = {column: images.is_known(column).tobytes() for column in drawn if images.is_known(column).any()}
    found: dict[str, Floats] = {}
    for mask in dict.fromkeys(masks.values()):
        names = [column for column in masks if masks[column] == mask]
        means = resampled_means(np.concatenate([images.both(name) for name in names], axis=1))
        found |= dict(zip(names, np.split(means, len(names), axis=1), strict=True))
    return found if images.any_constant or "consistency" not in found else found | {EARNED: found["consistency"]}


def _line_with_errors(measure: Measure, images: PairedImages, resampled: list[Floats]) -> Line:
    columns = [images.both(column) for column in measure.columns]
    errors = [_standard_error(measure, [column[:, side] for column in columns]) for side in (0, 1)]
    before, after = (_value(measure, [column.mean(axis=0)[side] for column in columns]) for side in (0, 1))
    drawn_before, drawn_after = (_value(measure, [column[:, side] for column in resampled]) for side in (0, 1))
    low, high = percentile_interval(drawn_after - drawn_before)
    return Line(
        measure=measure.name,
        unit=measure.unit,
        better=measure.better,
        num_images=len(columns[0]),
        baseline=float(before),
        baseline_se=errors[0],
        trained=float(after),
        trained_se=errors[1],
        difference=float(after - before),
        low=low,
        high=high,
        mcnemar_p=mcnemar_p(*images.count_discordant(measure.columns[0])) if measure.is_share else None,
    )


def _value(measure: Measure, means: list[Floats]) -> Floats:
    return corrected_consistency(*means) if len(means) == 2 else means[0] * measure.scale


def corrected_consistency(consistency: Floats, chance: Floats) -> Floats:
    """C* = (consistency - chance) / (1 - chance) of mean values; 0 where the mean chance level is 1."""
    is_constant = chance > CHANCE_LIMIT
    return np.where(is_constant, 0.0, (consistency - chance) / np.where(is_constant, 1.0, 1 - chance))


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A measure of one network over `num_images`, with its standard error; None where a single image has none."""

    measure: str
    unit: str
    better: Direction
    value: float
    standard_error: float | None
    num_images: int


def means_of(images: Mapping[str, Floats]) -> tuple[Mean, ...]:
    """Of columns of images.parquet, NaN for "not measured"; measures that no image has are left out."""
    means = []
    images = with_earned(images)
    for measure in MEASURES:
        columns = [images[column][~np.isnan(images[column])] for column in measure.columns]
        if len(columns[0]) and measure.is_told(float(columns[0].mean())):
            value = float(_value(measure, [np.asarray(column.mean()) for column in columns]))
            means.append(
                Mean(
                    measure=measure.name,
                    unit=measure.unit,
                    better=measure.better,
                    value=value,
                    standard_error=_standard_error(measure, columns),
                    num_images=len(columns[0]),
                )
            )
    return tuple(means)


def _standard_error(measure: Measure, columns: list[Floats]) -> float | None:
    """Of a mean, or of the ratio that C* is: 1 - C* = mean(1 - consistency) / mean(1 - chance), linearised."""
    if len(columns) == 1:
        return standard_error(columns[0] * measure.scale)
    apart, apart_by_chance = (1 - column for column in columns)
    room = float(apart_by_chance.mean())
    if room < 1 - CHANCE_LIMIT or len(apart) < 2:
        return None
    residual = apart - apart.mean() / room * apart_by_chance
    return float(residual.std(ddof=1) / (room * math.sqrt(len(apart))))
