"""What a classifier has to give: feature maps, and from these logits and signed Grad-CAM maps.

No hooks: an in-place ReLU would make a hook see another tensor than the head does.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.shapes import Classes, FeatureMaps, Features, Images, Logits, RawMaps
from gcc_search.training.recomputing import recomputed


def full_precision(features: Features) -> Features:
    """Float32, or float64 where `features` are: maps, heatmaps and logits drown in bfloat16's 8 bits."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


class Network(nn.Module):
    """A classifier whose last features, logits and maps can be asked for apart. `model` holds the parameters."""

    layer_of_classes: str
    """Name of the linear layer whose outputs are the logits."""
    patch_size = 1
    """A side of images is to be a multiple of it, in pixels."""
    is_replayable = False
    """Whether its passes depend on no tensor's value, and wait for none: a CUDA graph can hold them."""
    is_foldable = False
    """Whether what a convolution gives a normalisation is read by that alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.is_recomputed = False
        """Whether blocks are computed again in the backward pass, for memory (activation checkpointing)."""

    @property
    def num_classes(self) -> int:
        """Logits of an image."""
        layer = self.model.get_submodule(self.layer_of_classes)
        assert isinstance(layer, nn.Linear), "it is a linear one"
        return layer.out_features

    def features(self, images: Images) -> Features:
        """What logits and maps are made of; nearly all of a pass is before it."""
        if self.is_recomputed and torch.is_grad_enabled():
            return recomputed(self.blocks, images)
        return self._features(images)

    @abstractmethod
    def _features(self, images: Images) -> Features: ...

    @abstractmethod
    def logits(self, features: Features) -> Logits:
        """Of features in full precision, in that precision; autocast is to be off."""

    @abstractmethod
    def maps(self, features: Features, classes: Classes, *, detach_head: bool = False) -> RawMaps:
        """Signed Grad-CAM map of each image for its class: see `gradcam`."""

    @abstractmethod
    def map_side(self, image_size: int) -> int:
        """Cells on a side of the maps of a square image of `image_size` pixels."""

    @property
    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """What `features` is made of, in turn; none changes its input in place."""

    @property
    @abstractmethod
    def last_stage(self) -> nn.Module:
        """The module whose output maps are of: where methods that hook into a network do so."""

    def forward(self, images: Images) -> Logits:
        features = full_precision(self.features(images))
        with torch.autocast(features.device.type, enabled=False):
            return self.logits(features)


class PooledNetwork(Network):
    """Features are maps, and logits are a head's of their mean: the split that closed-form Grad-CAM needs."""

    @abstractmethod
    def _features(self, images: Images) -> FeatureMaps:
        """Output of the last stage before pooling: ResNet `layer4`, ConvNeXt `features`, Swin `norm`."""

    @property
    @abstractmethod
    def head(self) -> nn.Module:
        """Maps pooled features (B, K) to logits (B, C)."""

    @property
    def map_head(self) -> nn.Module:
        """The head by whose gradients maps are made: without dropout, of which logits and maps would have their own."""
        return self.head

    def logits(self, features: FeatureMaps) -> Logits:
        logits: Logits = self.head(features.mean((2, 3)))
        return logits

    def maps(self, features: FeatureMaps, classes: Classes, *, detach_head: bool = False) -> RawMaps:
        return gradcam(features, self.map_head, classes, detach_head=detach_head)


def without_dropout(head: nn.Sequential) -> nn.Module:
    """`head` as it is when nothing is drawn."""
    kept = [module for module in head if not isinstance(module, nn.Dropout)]
    return kept[0] if len(kept) == 1 else nn.Sequential(*kept)
