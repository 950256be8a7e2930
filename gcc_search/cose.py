"""COSE of a trained network: measured with a progress bar, told as a table, written pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console

from gcc_search.analysis.cose import Pairs, cose_means
from gcc_search.analysis.cose_table import KEY, cose_table
from gcc_search.saying import progress, say
from gcc_search.trained import Trained
from gcc_search.training.cose import CosePairs, choose_images, measure_cose, untrained_network
from gcc_search.training.cose_transforms import TRANSFORMS, Geometric, weight_of
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.image_set import ImageSet

RANDOM_WEIGHTS = "random weights"
NAMES = (*(transform.name for transform in TRANSFORMS), RANDOM_WEIGHTS)


def score_cose(
    trained: Trained, images: ImageSet, evaluation: Evaluation, *, most: int, console: Console
) -> dict[str, Any]:
    """Prints COSE over at most `most` of the images; columns of `results.schema.PAIRS`, a row a pair."""
    chosen = choose_images(len(images), evaluation, most=most)
    untrained = untrained_network(trained.settings.network, num_classes=trained.num_classes, evaluation=evaluation)
    with progress(console, f"COSE of {len(chosen)} images") as on_step:
        measured = measure_cose((trained.network, untrained), images, evaluation, chosen=chosen, on_step=on_step)
    console.print()
    console.print(cose_table(cose_means(pairs_of(measured))))
    say(console, KEY)
    if num_empty := int(measured.is_empty.sum()):
        told = "is like any other such heatmap, and unlike that of random weights: COSE is too high by it"
        say(console, f"{num_empty} of {len(chosen)} images have no positive map: what is empty {told}")
    return pair_columns(measured, images)


def pairs_of(measured: CosePairs) -> Pairs:
    """What is averaged."""
    labels = measured.labels[:, None]
    was_right, is_right = measured.predicted[:, None] == labels, measured.predicted_then == labels
    return Pairs(
        names=NAMES,
        weights=np.array([*map(weight_of, TRANSFORMS), 1.0]),
        is_geometric=np.array([*(isinstance(transform, Geometric) for transform in TRANSFORMS), False]),
        similarity=measured.similarity.numpy(),
        is_kept=(was_right & is_right).numpy(),
        is_changed=(was_right & ~is_right).numpy(),
    )


def pair_columns(measured: CosePairs, images: ImageSet) -> dict[str, Any]:
    """Image by image, each in the order of `NAMES`."""
    positions, count = measured.chosen.tolist(), len(NAMES)
    amounts = np.concatenate([measured.amounts.numpy(), np.zeros((len(positions), 1))], axis=1)
    # 0 is no amount that is drawn: it stands for none.
    amounts[amounts == 0] = np.nan
    each = {"index": measured.chosen, "label": measured.labels, "predicted": measured.predicted}
    return {name: np.repeat(values.numpy(), count) for name, values in each.items()} | {
        "name": [images.names[position] for position in positions for _ in NAMES],
        "transform": list(NAMES) * len(positions),
        "amount": amounts.ravel(),
        "predicted_then": measured.predicted_then.numpy().ravel(),
        "similarity": measured.similarity.numpy().ravel(),
    }
