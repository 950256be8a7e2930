"""The networks by name. Parameters keep torchvision's names, so that a trained network loads into torchvision as it is.

(A vision transformer of other than 224 pixels, by way of torchvision's `interpolate_embeddings`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gcc_search.errors import WeightsError
from gcc_search.saliency.shapes import FeatureMaps, Images, Logits, Pooled
from gcc_search.seeding import derive_seed
from gcc_search.training.network import Network, PooledNetwork
from gcc_search.training.vit import VisionTransformerClassifier
from gcc_search.training.weights import read_weights

if TYPE_CHECKING:
    # Loads torch's compiler, a second and a half; where no network of it is built, nobody waits for that.
    import torchvision


class ResNetClassifier(PooledNetwork):
    model: torchvision.models.ResNet

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


class SwinClassifier(PooledNetwork):
    """A vision transformer whose last tokens lie on a grid and are averaged: maps come from it as from a ResNet."""

    model: torchvision.models.SwinTransformer

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


class SmallConvNet(nn.Module):
    """Four stages for 64-pixel images: 64 -> 32 -> 16 -> 8, then one more at 8 x 8. 0.1 million parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 96)
        strides = (2, 2, 2, 1)
        self.stages = nn.Sequential(*(_stage(*sizes) for sizes in zip(widths[:-1], widths[1:], strides, strict=True)))
        self.fc = nn.Linear(widths[-1], num_classes)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SmallClassifier(PooledNetwork):
    model: SmallConvNet

    def _features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = self.model.stages(images)
        return maps

    def map_side(self, image_size: int) -> int:
        return -(-image_size // 8)

    @property
    def blocks(self) -> list[nn.Module]:
        return [*self.model.stages]

    @property
    def last_stage(self) -> nn.Module:
        stage: nn.Module = self.model.stages
        return stage

    @property
    def head(self) -> nn.Module:
        return self.model.fc


_CLASSIFIERS: dict[str, type[Network]] = {
    "resnet18": ResNetClassifier,
    "resnet50": ResNetClassifier,
    "convnext_tiny": ConvNeXtClassifier,
    "swin_t": SwinClassifier,
    "vit_b_16": VisionTransformerClassifier,
}


# How the names of a classifier's parameters begin.
_HEADS = ("fc.", "classifier.", "head.", "heads.")


def build_network(name: str, *, num_classes: int, weights: str, seed: int) -> Network:
    """The network `name` with `num_classes` outputs, in float32 and channels_last, on the CPU.

    Args:
        weights: `none` (random by `seed`), a torchvision name (fetched, or found in torch's cache), or a file
            (.pth or .safetensors). A classifier of another size is left out and starts at random.

    Raises:
        WeightsError: weights that are not there, torn, or of another network.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs' generators too.
        torch.default_generator.manual_seed(derive_seed(seed, "weights"))
        network = _empty_network(name, num_classes)
    if weights != "none":
        _load_weights(network.model, read_weights(name, weights), where=weights)
    return network.to(memory_format=torch.channels_last)


def restore_network(name: str, tensors: dict[str, Tensor], *, where: str) -> Network:
    """A trained network from every one of its tensors, in eval mode and channels_last, on the CPU.

    Unlike `build_network`, which leaves another's classifier out, takes nothing that does not fit.

    Raises:
        WeightsError: a tensor is missing, too many or of another shape.
    """
    heads = [tensors[key] for key in ("fc.bias", "classifier.2.bias", "head.bias", "heads.head.bias") if key in tensors]
    # What it draws is written over; nobody else's draws may change by it.
    with torch.random.fork_rng(devices=[]):
        network = _empty_network(name, len(heads[0]) if heads else 1)
    try:
        network.model.load_state_dict(tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise WeightsError(f"{where}: must hold every tensor of {name} and no other, got: {first}") from None
    return network.to(memory_format=torch.channels_last).eval()


def _empty_network(name: str, num_classes: int) -> Network:
    if name == "convnet_small":
        return SmallClassifier(SmallConvNet(num_classes))
    import torchvision

    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    return _CLASSIFIERS[name](model)


def _load_weights(model: nn.Module, state: dict[str, Tensor], *, where: str) -> None:
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    # The classifier may be another's; counters are missing from files of before torch 0.4.
    optional = {key for key in own if key.startswith(_HEADS) or key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - fitting.keys() - optional)
    if missing:
        raise WeightsError(
            f"weights: {where}: must be of this network, got no {missing[0]} of its shape "
            f"({len(missing)} tensors missing); check network"
        )
    model.load_state_dict(fitting, strict=False)
