"""Student's t for the mean of a few values, such as one for each seed.

Not a bootstrap: resampling two to five values yields next to nothing but these values, and an interval far too narrow
(of two, their range at best: it holds the mean in half of the cases). Over images, which are many, intervals are
bootstrapped. W. S. Gosset ("Student"), The probable error of a mean, Biometrika 6, 1908.
"""

from __future__ import annotations

import math

import numpy as np

from gcc_search.analysis.bootstrap import LEVEL, Floats


def mean_interval(values: Floats) -> tuple[Floats, Floats, Floats]:
    """(mean, low, high) over the first axis of `values`, n >= 2 of them: the mean and its 95 % interval.

    Degrees of freedom: n - 1. Of two values it reaches 12.7 standard errors to each side, of three 4.3: perhaps beyond
    what the quantity can be.
    """
    mean = values.mean(axis=0)
    reach = _quantile(len(values) - 1) * values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return mean, np.asarray(mean - reach), np.asarray(mean + reach)


def _quantile(degrees_of_freedom: int) -> float:
    # A fifth of a second to import; most runs have one seed.
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, (1 + LEVEL) / 2))
