"""Heatmaps of other methods, by pytorch-grad-cam: for a look beside ours, for any trained network and class."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gcc_search.errors import SpaceError
from gcc_search.objectives import closest
from gcc_search.training.networks import Network

# As one types it -> the class in pytorch_grad_cam.
METHODS = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "elementwise": "GradCAMElementWise",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "kpcacam": "KPCA_CAM",
    "fem": "FEM",
    "finercam": "FinerCAM",
    "shapleycam": "ShapleyCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}


def parse_methods(text: str | None) -> tuple[str, ...]:
    """`gradcam++, LayerCAM` -> ("gradcam++", "layercam"), each once.

    Raises:
        SpaceError: a name that is not among `METHODS`.
    """
    names = [name.strip().lower() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in METHODS:
            near = closest(name, METHODS)
            more = "" if near.startswith("known") else f" (known are {', '.join(METHODS)})"
            raise SpaceError(f"--methods: must be known, got {name}; {near}{more}")
    return tuple(dict.fromkeys(names))


def posthoc_heatmap(network: Network, image: Tensor, label: int, method: str) -> NDArray[np.float32]:
    """The heatmap of `method` for class `label` at the image's size, in [0, 1], clipped at 0 before it is scaled.

    Args:
        image: (1, 3, size, size), normalised.
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    explain: Any = getattr(pytorch_grad_cam, METHODS[method])(model=network, target_layers=[network.last_stage])
    # FinerCAM makes its own target, the class against those nearest to it, and hides the hooks one level deeper.
    finer = method == "finercam"
    asked = {"target_idx": label} if finer else {"targets": [ClassifierOutputTarget(label)]}
    # Not its `with` block, which swallows an IndexError; its bars on stderr would tear ours apart.
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
            heatmaps = explain(input_tensor=image, **asked)
    finally:
        (explain.base_cam if finer else explain).activations_and_grads.release()
        network.zero_grad(set_to_none=True)
    return np.asarray(heatmaps[0], dtype=np.float32)
