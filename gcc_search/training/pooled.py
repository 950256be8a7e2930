"""torchvision's networks that pool their last feature maps: what is before the pooling, and what is after it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from torch import nn

from gcc_search.saliency.shapes import FeatureMaps, Images, Logits, Pooled
from gcc_search.training.network import PooledNetwork, without_dropout

if TYPE_CHECKING:
    # Loads torch's compiler, a second and a half; where no network of it is built, nobody waits for that.
    import torchvision


class ResNetClassifier(PooledNetwork):
    model: torchvision.models.ResNet
    layer_of_classes = "fc"

    def _features(self, images: Images) -> FeatureMaps:
        m = self.model
        x = m.maxpool(m.relu(m.bn1(m.conv1(images))))
        maps: FeatureMaps = m.layer4(m.layer3(m.layer2(m.layer1(x))))
        return maps

    def map_side(self, image_size: int) -> int:
        # Halved five times by windows with a border, which rounds up.
        return -(-image_size // 32)

    @property
    def blocks(self) -> list[nn.Module]:
        m = self.model
        return [nn.Sequential(m.conv1, m.bn1, m.relu, m.maxpool), *m.layer1, *m.layer2, *m.layer3, *m.layer4]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = self.model.layer4
        return stage

    @property
    def head(self) -> nn.Module:
        head: nn.Module = self.model.fc
        return head


class ConvNeXtClassifier(PooledNetwork):
    model: torchvision.models.ConvNeXt
    layer_of_classes = "classifier.2"

    def _features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = self.model.features(images)
        return maps

    def map_side(self, image_size: int) -> int:
        # Patches side by side: what is left over at the border is not seen.
        return image_size // 32

    @property
    def blocks(self) -> list[nn.Module]:
        # Stem and downsampling stand between stages of many blocks.
        first, *rest = self.model.features
        pairs = zip(rest[::2], rest[1::2], strict=False)
        return [first, *(block for stage, down in pairs for block in (*stage, down)), *rest[-1]]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = self.model.features
        return stage

    @property
    def head(self) -> nn.Module:
        return _PooledClassifier(self.model.classifier)


class _PooledClassifier(nn.Module):
    """torchvision's ConvNeXt classifier (LayerNorm2d, flatten, linear) takes (B, K, 1, 1); this takes (B, K)."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pooled: Pooled) -> Logits:
        logits: Logits = self.classifier(pooled[:, :, None, None])
        return logits


class DenseNetClassifier(PooledNetwork):
    """Maps are of what is pooled: after the ReLU that torchvision has outside of any module."""

    model: torchvision.models.DenseNet
    layer_of_classes = "classifier"

    def __init__(self, model: torchvision.models.DenseNet) -> None:
        super().__init__(model)
        # Not in place: who hooks into it, or into what is before it, is to see what was there.
        self._rectified = nn.ReLU()

    def _features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = self._rectified(self.model.features(images))
        return maps

    def map_side(self, image_size: int) -> int:
        # Halved twice by windows with a border, which rounds up, and three times by windows without.
        return -(-image_size // 4) // 8

    @property
    def blocks(self) -> list[nn.Module]:
        first, rest = self.model.features[:4], self.model.features[4:-1]
        return [first, *rest, nn.Sequential(self.model.features[-1], self._rectified)]

    @property
    def last_stage(self) -> nn.Module:
        return self._rectified

    @property
    def head(self) -> nn.Module:
        head: nn.Module = self.model.classifier
        return head


class EfficientNetClassifier(PooledNetwork):
    """And MobileNetV3, which is built alike; their classifiers have dropout, their maps have none."""

    model: torchvision.models.EfficientNet | torchvision.models.MobileNetV3
    layer_of_classes = "classifier.1"

    def _features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = self.model.features(images)
        return maps

    def map_side(self, image_size: int) -> int:
        # Halved five times by windows with a border, which rounds up.
        return -(-image_size // 32)

    @property
    def blocks(self) -> list[nn.Module]:
        first, *stages, last = self.model.features
        # EfficientNet's stages are of many blocks, MobileNet's are blocks.
        middle = [[*stage] if type(stage) is nn.Sequential else [stage] for stage in stages]
        return [first, *itertools.chain.from_iterable(middle), last]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = self.model.features
        return stage

    @property
    def head(self) -> nn.Module:
        head: nn.Module = self.model.classifier
        return head

    @property
    def map_head(self) -> nn.Module:
        return without_dropout(self.model.classifier)


class MobileNetClassifier(EfficientNetClassifier):
    layer_of_classes = "classifier.3"


class SwinClassifier(PooledNetwork):
    """A vision transformer whose last tokens lie on a grid and are averaged: maps come from it as from a ResNet."""

    model: torchvision.models.SwinTransformer
    layer_of_classes = "head"

    def _features(self, images: Images) -> FeatureMaps:
        m = self.model
        maps: FeatureMaps = m.permute(m.norm(m.features(images)))
        return maps

    def map_side(self, image_size: int) -> int:
        # Patches of 4 side by side; merged three times, by pairs that are filled up.
        return -(-(image_size // 4) // 8)

    @property
    def blocks(self) -> list[nn.Module]:
        m = self.model
        # Patches, stages of many blocks with a merger between any two, and what makes maps of the last tokens.
        patches, *rest = m.features
        stages = (stage if isinstance(stage, nn.Sequential) else [stage] for stage in rest)
        return [patches, *(block for stage in stages for block in stage), nn.Sequential(m.norm, m.permute)]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = self.model.permute
        return stage

    @property
    def head(self) -> nn.Module:
        head: nn.Module = self.model.head
        return head
