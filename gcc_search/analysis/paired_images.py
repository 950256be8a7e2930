"""images.parquet of a trial and of its baseline, row by row the same image under the same transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gcc_search.analysis.bootstrap import Floats
from gcc_search.earned import earned_consistency
from gcc_search.errors import ResultsError
from gcc_search.results.reader import Trial
from gcc_search.results.schema import SINCE_2

READ = ("correct", "consistency", "chance", "iauc", "dauc", "gini", "box_mass", "degenerate", *SINCE_2)
EARNED = "earned_consistency"
"""The consistency that C* is made of."""
MEASURED = (*READ, EARNED)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedImages:
    """Measures by name, as in `MEASURED`, one value per image of the test split; NaN is "not measured"."""

    baseline: dict[str, Floats]
    trained: dict[str, Floats]

    @property
    def any_constant(self) -> bool:
        """Whether a map of either network is constant, so that `EARNED` is another column than the consistency."""
        return bool(self.baseline["degenerate"].any() or self.trained["degenerate"].any())

    def is_known(self, column: str) -> NDArray[np.bool_]:
        """Which images both networks have a value of."""
        mask: NDArray[np.bool_] = ~(np.isnan(self.baseline[column]) | np.isnan(self.trained[column]))
        return mask

    def both(self, column: str) -> Floats:
        """(images that both have a value of, 2): baseline, trained."""
        return np.stack([self.baseline[column], self.trained[column]], axis=1)[self.is_known(column)]

    def count_discordant(self, column: str) -> tuple[int, int]:
        """Of a column of 0 and 1: the images that have it in the baseline alone, and in the trained network alone."""
        before, after = self.both(column).T
        return int((before > after).sum()), int((before < after).sum())


def read_paired(trial: Trial, baseline: Trial) -> PairedImages | None:
    """The images that both scored, in the order of the test split; None where a file is missing or torn."""
    try:
        before, after = (one.images(("index", *READ)) for one in (baseline, trial))
    except ResultsError:
        # Told among the run's problems, by name. What trial.json says of the test split is used all the same.
        return None
    index_before, index_after = _column(before, "index"), _column(after, "index")
    _, kept_before, kept_after = np.intersect1d(index_before, index_after, return_indices=True)
    return PairedImages(baseline=_columns(before, kept_before), trained=_columns(after, kept_after))


def _columns(table: pa.Table, kept: NDArray[np.intp]) -> dict[str, Floats]:
    return with_earned({name: _column(table, name)[kept] for name in READ})


def with_earned(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """Columns of images.parquet, and `EARNED` beside them."""
    given = (columns[name] for name in ("consistency", "chance", "degenerate"))
    return {**columns, EARNED: earned_consistency(*given)}


def _column(table: pa.Table, name: str) -> Floats:
    # By way of integers: Arrow casts no bool to double.
    column = table[name].cast(pa.int8()) if table[name].type == pa.bool_() else table[name]
    values: Floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values
