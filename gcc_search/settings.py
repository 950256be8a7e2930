"""The settings of one trial, as people write them: checked once, here, and frozen from then on.

Shared by the space file (`space.py`), the command line (`cli/`) and the trial (`trial.py`). Imports neither torch nor
Ray, so that a space file is checked in milliseconds.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from gcc_search.plugins import bringers, brought_networks, is_misnamed

# What squares and products of a few still hold, in float64 and in int64.
LARGEST, LARGEST_WHOLE = 1e100, 2**63 - 1


def _refuse_text_and_claims(value: object, *, kind: str, example: str) -> object:
    """Pydantic would read the text "1e-6" and the word true as numbers; who writes them means something else."""
    if isinstance(value, str):
        raise ValueError(f'must be a {kind}, got the text "{value}"; write it as {example}, without quotes')
    if isinstance(value, bool):
        raise ValueError(f"must be a {kind}, got {str(value).lower()}")
    # Infinity is pydantic's to tell.
    if isinstance(value, int | float) and LARGEST < abs(value) != math.inf:
        raise ValueError(f"must be between -{LARGEST:g} and {LARGEST:g}, got {str(value)[:20]}")
    return value


_any_number = functools.partial(_refuse_text_and_claims, kind="number", example="0.001 or 1e-3")
_whole_number = functools.partial(_refuse_text_and_claims, kind="whole number", example="16")
Number = Annotated[float, BeforeValidator(_any_number), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_whole_number), Field(ge=-LARGEST_WHOLE, le=LARGEST_WHOLE)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Share = Annotated[Number, Field(gt=0, le=1)]
PositiveInt = Annotated[Whole, Field(ge=1)]
Count = Annotated[Whole, Field(ge=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]


NETWORKS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "mobilenet_v3_large",
    "vgg16",
    "vgg16_bn",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "swin_t",
    "swin_s",
    "swin_b",
    "swin_v2_t",
    "vit_b_16",
    "vit_b_32",
    "convnet_small",
)
"""Ours; other packages may bring more."""


def _check_network(name: str) -> str:
    packages = bringers(name)
    if name in NETWORKS and packages:
        raise ValueError(f"must be one network, got ours and that of the package {packages[0]}; rename that one")
    if len(packages) > 1:
        raise ValueError(f"must be one network, got one of each of {' and '.join(packages)}; rename one")
    if name in NETWORKS or packages:
        return name
    if is_misnamed(name):
        raise ValueError(f"must be a letter, then at most 31 letters, digits or underscores, got {name}; rename it")
    known = (*NETWORKS, *brought_networks())
    raise PydanticCustomError("unknown_network", "unknown", {"expected": f"{', '.join(known[:-1])} or {known[-1]}"})


NetworkName = Annotated[str, AfterValidator(_check_network)]


# Of a run, which is a folder: no path, and nothing that a shell would take for an option.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Settings(BaseModel):
    """Frozen; a misspelt key is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DataSettings(Settings):
    """Which images, and how they are split. Search and test never share an image."""

    name: Literal["shapes", "caltech101", "cub200", "imagefolder"]
    root: Path | None = None
    """Folder that holds the data set as its authors distribute it; `shapes` needs none."""
    classes: tuple[str, ...] | None = None
    """Keep only these classes, by folder name; all of them where None."""
    max_images_per_class: PositiveInt | None = None
    """Keep at most so many images of each class before splitting (drawn by `split_seed`); all where None."""
    test_fraction: Fraction = 0.2
    """Stratified share of each class kept for the test split; ignored where the authors give a split (CUB-200)."""
    validation_fraction: Fraction = 0.15
    """Stratified share of each class's training part that the sampler is scored on."""
    split_seed: Whole = 0
    download: bool = False
    """Let torchvision fetch what is missing, where there is internet."""
    num_images: Annotated[Whole, Field(ge=1, le=1_000_000)] = 2000
    """`shapes` only: images generated, over all splits."""
    data_seed: Whole = 0
    """`shapes` only: seed of the generator."""


class Recipe(Settings):
    """How a network is trained, baseline or not. Every field is part of the baseline's key."""

    epochs: PositiveInt = 20
    batch_size: Annotated[Whole, Field(ge=2)] = 32
    lr: Positive = 1e-3
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 1e-4
    lr_step_epochs: PositiveInt = 30
    """Multiply the learning rate by `lr_gamma` every so many epochs (paper: 0.1 every 30)."""
    lr_gamma: Share = 0.1
    image_size: Annotated[Whole, Field(ge=32, le=1024)] = 224
    crop_scale_min: Share = 0.08
    """Smallest area share of the random resized crop that perturbs x itself (paper: 0.08)."""


class Explanation(Settings):
    """Equation 4's terms: L = L_CE + alpha L_C + beta L_S. Of the baseline alpha = beta = 0, and all else is at its
    default but what `baseline.shared_names` gives."""

    alpha: NonNegative = 0.0
    beta: NonNegative = 0.0
    p: Annotated[Number, Field(ge=0, le=4)] = 1.0
    distance: Literal["ssim", "correlation"] = "ssim"
    compared_at: Literal["full", "half"] = "full"
    """Side of the two maps that are compared: the image's, or half of it, where the window of SSIM spans twice as much
    of the image, in half of the time. Its gradient is another one: of ResNet18 with ImageNet's weights on
    photographs, at an angle of 40 degrees to that of `full`, and 1.1 times as long."""
    sparsity: Literal["searched", "paper"] = "searched"
    """`searched`: in [0, 1] for every p, so that beta means the same whatever p is. `paper`: the p-norm of the heatmap
    as one vector; at p = 0 it counts pixels and has no gradient, so beta does nothing."""
    cam_class: Literal["first-view", "own"] = "first-view"
    """Class explained in the second view: the first view's prediction, or (paper) its own."""
    ce_on_views: Literal["first", "both"] = "first"
    """Views that L_CE is on, the baseline's as well: on both, the transform t augments."""
    detach: Literal["none", "head", "second-view"] = "none"
    """Cut gradients of the map terms: into the head's weights, or into the second view."""
    opposing: Literal["kept", "projected"] = "kept"
    """What of the gradient of alpha L_C + beta L_S points against that of L_CE: kept, or taken away in every step, so
    that to first order none is worse for L_CE than one without an explanation. That is two passes back through the
    network: a step of ResNet18 takes 1.76 times as long (CPU), and one to two more copies of its weights in memory.
    (`shapes`, alpha 30, beta 10: test accuracy 0.6 points up and C* 0.01 down in fine-tuning, two seeds, which is
    within the noise; from random weights no better, three seeds.)"""
    warmup_epochs: Count = 0
    """alpha and beta rise linearly from 0 over so many epochs."""
    transform_scale_min: Share = 0.08
    """Smallest area share of the transform t in training (paper: 0.08). Evaluation always uses the paper's."""
    photometric: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """How much t recolours and blurs the second view as well, in training (paper: its future work): SimCLR's colour
    jitter of this strength for all images (and none grey), and a blur of every other one; the heatmap stays where it
    is. 0: nothing. Evaluation never does, so that consistency means the same. With `ce_on_views: both` it augments, and
    is the baseline's too. A step of ResNet18 takes 1.06 times as long (CPU)."""


class EvaluationSettings(Settings):
    """What the test split is scored with, once, at the end of a trial."""

    seed: Whole = 0
    """Seed of the fixed transforms: equal seeds make networks comparable image by image."""
    insertion_images: Count = 1000
    """Insertion and deletion AUC on at most so many fixed test images (57 forward passes each); 0 leaves them out."""
    batch_size: PositiveInt = 64


class Collapse(Settings):
    """When a trial is given up as collapsed. Constant maps, and maps that ignore the image, are looked for as well."""

    points: Positive = 10.0
    """Validation accuracy is so many points under the baseline's as it was after half as many epochs; after the last
    epoch, after as many."""
    min_epochs: PositiveInt = 1
    """Looked for from this epoch on, and after the last one in any case. Many that were good before and dip recover,
    at the latest when the learning rate falls; they take their time."""


class TrialSettings(Settings):
    """Everything that decides one trial's result. Equal settings on one machine give equal bits (CPU)."""

    network: NetworkName
    weights: str = "IMAGENET1K_V1"
    """`IMAGENET1K_V1`, `DEFAULT`, `none` (random), or a file of weights."""
    data: DataSettings
    recipe: Recipe = Recipe()
    explanation: Explanation = Explanation()
    evaluation: EvaluationSettings = EvaluationSettings()
    collapse: Collapse = Collapse()
    seed: Count = 0
    activation_checkpointing: bool = False
    """Compute the network's blocks again in the backward pass instead of keeping what is inside them: images that are
    too large otherwise fit, and results stay the same. A step takes 1.3 times as long; on a GPU, where no CUDA graph
    can hold it, twice as long and more."""
