"""Which consistency counts towards C*; for whoever measures images and whoever reads what was measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def earned_consistency(
    consistency: NDArray[np.float64], chance: NDArray[np.float64], degenerate: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Each image's consistency, -1 to 1; its chance level where its map is constant. C* is made of the mean of these.

    SSIM of two constant maps is 1, whatever the images: taken as it is, a network that gives up on a tenth of the
    images would gain in C* what all of its other maps together can hardly gain.

    Args:
        consistency, chance, degenerate: those columns of images.parquet.
    """
    return np.where(degenerate.astype(bool), chance, consistency)
