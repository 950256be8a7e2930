"""Heatmaps of other methods, by pytorch-grad-cam: for a look beside ours, for any trained network and class."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcc_search.errors import SpaceError
from gcc_search.objectives import closest
from gcc_search.training.network import Network

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


def posthoc_heatmaps(network: Network, images: Tensor, labels: Sequence[int], method: str) -> NDArray[np.float32]:
    """Heatmaps of `method`, (B, size, size), each for its label's class, in [0, 1], clipped at 0 before it is scaled.

    Args:
        images: (B, 3, size, size), normalised; each gets the heatmap that it would get alone.
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # FinerCAM makes its own targets, one class for all images against those nearest to it.
    if method == "finercam" and len(labels) > 1:
        alone = (posthoc_heatmaps(network, images[row : row + 1], [label], method) for row, label in enumerate(labels))
        return np.concatenate(list(alone))
    finer = method == "finercam"
    asked = {"target_idx": labels[0]} if finer else {"targets": [ClassifierOutputTarget(label) for label in labels]}
    # ShapleyCAM alone asks for the gradient of the image as well.
    with _maps_of_their_own(network, gradients_end_there=method != "shapleycam"):
        explain: Any = getattr(pytorch_grad_cam, METHODS[method])(model=network, target_layers=[network.last_stage])
        # Not its `with` block, which swallows an IndexError; its bars on stderr would tear ours apart.
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
                heatmaps = explain(input_tensor=images, **asked)
        finally:
            # FinerCAM hides its hooks one level deeper.
            (explain.base_cam if finer else explain).activations_and_grads.release()
            network.zero_grad(set_to_none=True)
    return np.asarray(heatmaps, dtype=np.float32)


@contextlib.contextmanager
def _maps_of_their_own(network: Network, *, gradients_end_there: bool) -> Iterator[None]:
    """Maps and gradients that these methods may change in place, as they do; they are no views of others.

    Where gradients end at the maps, none goes through the rest of the network, which is most of their cost.
    """
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def copied(module: nn.Module, inputs: object, maps: Tensor) -> Tensor:
        own = maps.detach().clone().requires_grad_() if gradients_end_there else maps.clone()
        if own.requires_grad:
            own.register_hook(torch.clone)  # type: ignore[no-untyped-call]
        return own

    hook = network.last_stage.register_forward_hook(copied)
    network.requires_grad_(not gradients_end_there)
    try:
        yield
    finally:
        hook.remove()
        for parameter in learned:
            parameter.requires_grad_(True)
