"""torchvision's VGG networks, whose classifier reads each place of the last feature maps apart.

So the score's gradient is another one at each place, and v is its sum: the gradient by one vector that is added to all
of them. That goes through the classifier alone, which is differentiated twice.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from gcc_search.saliency.gradcam import gradcam_of_patches
from gcc_search.saliency.shapes import Classes, FeatureMaps, Images, Logits, Pooled, RawMaps
from gcc_search.training.network import Network, without_dropout

if TYPE_CHECKING:
    import torchvision


class VGGClassifier(Network):
    """Maps are of the output of the last pooling between convolutions, `features`; they have no dropout."""

    model: torchvision.models.VGG
    bias_of_classes = "classifier.6.bias"

    def _features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = self.model.features(images)
        return maps

    def map_side(self, image_size: int) -> int:
        # Halved five times by windows side by side: what is left over at the border is not seen.
        return image_size // 32

    @property
    def blocks(self) -> list[nn.Module]:
        blocks: list[list[nn.Module]] = [[]]
        for module in self.model.features:
            blocks[-1].append(module)
            if isinstance(module, nn.MaxPool2d):
                blocks.append([])
        return [nn.Sequential(*block) for block in blocks if block]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = self.model.features
        return stage

    def logits(self, features: FeatureMaps) -> Logits:
        return self._logits_of(self.model.classifier, features)

    def maps(self, features: FeatureMaps, classes: Classes, *, detach_head: bool = False) -> RawMaps:
        classifier = without_dropout(self.model.classifier)

        def logits_of(cells: FeatureMaps, shift: Pooled) -> Logits:
            return self._logits_of(classifier, cells + shift[:, :, None, None])

        return gradcam_of_patches([features], logits_of, classes, detach_head=detach_head)

    def _logits_of(self, classifier: nn.Module, features: FeatureMaps) -> Logits:
        rows, columns = self.model.avgpool.output_size
        if features.shape[2:] != (rows, columns):
            features = _averaged(features, rows, columns)
        logits: Logits = classifier(features.flatten(1))
        return logits


def _averaged(features: FeatureMaps, rows: int, columns: int) -> Tensor:
    """Adaptive average pooling by products of matrices: torch's own gradient is not the same twice on a GPU."""
    sides = zip(features.shape[2:], (rows, columns), strict=True)
    by_rows, by_columns = (_averaging(source, target, features.device, features.dtype) for source, target in sides)
    return torch.einsum("rs,bkst,ct->bkrc", by_rows, features, by_columns)


@functools.cache
def _averaging(source: int, target: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What each of `source` values adds to each of `target`, (target, source)."""
    # Kept, and trained with, though first asked for in inference mode.
    with torch.inference_mode(False):
        one_each = torch.eye(source, dtype=torch.float64)[None]
        return functional.adaptive_avg_pool1d(one_each, target)[0].T.contiguous().to(device, dtype)
