"""torchvision's VGG networks, whose classifier reads each place of the last feature maps apart.

So the score's gradient is another one at each place, and v is its sum over places. Of linear layers with ReLUs between
it is a product of their weights, of which those of the first are added up over places: a 49th part of 100 million is
multiplied, and nothing is differentiated twice.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from gcc_search.saliency.gradcam import weighted
from gcc_search.saliency.shapes import Classes, FeatureMaps, Images, Logits, Pooled, RawMaps
from gcc_search.training.network import Network

if TYPE_CHECKING:
    import torchvision


class VGGClassifier(Network):
    """Maps are of the output of the last pooling between convolutions, `features`; they have no dropout."""

    model: torchvision.models.VGG
    layer_of_classes = "classifier.6"

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
        logits: Logits = self.model.classifier(self._read(features))
        return logits

    def maps(self, features: FeatureMaps, classes: Classes, *, detach_head: bool = False) -> RawMaps:
        with (
            torch.autocast(features.device.type, enabled=False),
            torch.set_grad_enabled(torch.is_grad_enabled() and not detach_head),
        ):
            weights = self._score_gradient(features, classes)
        return weighted(features, weights)

    def _score_gradient(self, features: FeatureMaps, classes: Classes) -> Pooled:
        """v_k, the sum over places of d y_c / d A_k: averages hand on all that they are given."""
        first, second, last = (layer for layer in self.model.classifier if isinstance(layer, nn.Linear))
        with torch.no_grad():
            # Which values a ReLU lets through moves with no small change of weights or features.
            hidden = first(self._read(features)).relu_()
            passed = (hidden > 0, second(hidden) > 0)
        score = functional.embedding(classes, last.weight) * passed[1]
        score = (score @ second.weight) * passed[0]
        gradient: Pooled = score @ first.weight.view(first.out_features, features.shape[1], -1).sum(2)
        return gradient

    def _read(self, features: FeatureMaps) -> Tensor:
        """What the classifier is given of each image."""
        rows, columns = self.model.avgpool.output_size
        if features.shape[2:] != (rows, columns):
            features = _averaged(features, rows, columns)
        return features.flatten(1)


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
