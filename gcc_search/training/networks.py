"""The networks by name. Parameters keep torchvision's names, so that a trained network loads into torchvision as it is.

(A vision transformer of other than 224 pixels, by way of torchvision's `interpolate_embeddings`.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gcc_search.errors import WeightsError
from gcc_search.saliency.shapes import FeatureMaps, Images
from gcc_search.seeding import derive_seed
from gcc_search.training.network import Network, PooledNetwork
from gcc_search.training.own_network import own_network
from gcc_search.training.pooled import (
    ConvNeXtClassifier,
    DenseNetClassifier,
    EfficientNetClassifier,
    MobileNetClassifier,
    ResNetClassifier,
    SwinClassifier,
)
from gcc_search.training.vgg import VGGClassifier
from gcc_search.training.vit import VisionTransformerClassifier
from gcc_search.training.weights import read_weights


class SmallConvNet(nn.Module):
    """Four stages for 64-pixel images: 64 -> 32 -> 16 -> 8, then one more at 8 x 8. 0.1 million parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 96)
        strides = (2, 2, 2, 1)
        self.stages = nn.Sequential(*(_stage(*sizes) for sizes in zip(widths[:-1], widths[1:], strides, strict=True)))
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, as torchvision's networks give them."""
        logits: Tensor = self.fc(self.stages(images).mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SmallClassifier(PooledNetwork):
    model: SmallConvNet
    layer_of_classes = "fc"

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


CLASSIFIERS: dict[str, type[Network]] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), ResNetClassifier),
    **dict.fromkeys(("resnext50_32x4d", "wide_resnet50_2"), ResNetClassifier),
    "densenet121": DenseNetClassifier,
    **dict.fromkeys(("efficientnet_b0", "efficientnet_v2_s"), EfficientNetClassifier),
    "mobilenet_v3_large": MobileNetClassifier,
    **dict.fromkeys(("vgg16", "vgg16_bn"), VGGClassifier),
    **dict.fromkeys(("convnext_tiny", "convnext_small", "convnext_base"), ConvNeXtClassifier),
    **dict.fromkeys(("swin_t", "swin_s", "swin_b", "swin_v2_t"), SwinClassifier),
    **dict.fromkeys(("vit_b_16", "vit_b_32"), VisionTransformerClassifier),
    "convnet_small": SmallClassifier,
}
"""By torchvision's names, and one of ours; other packages may bring more (`plugins`)."""


def build_network(name: str, *, num_classes: int, weights: str, seed: int) -> Network:
    """The network `name` with `num_classes` outputs, in float32 and channels_last, on the CPU.

    Args:
        weights: `none` (random by `seed`), a torchvision name (fetched, or found in torch's cache), or a file
            (.pth or .safetensors). A classifier of another size is left out and starts at random.

    Raises:
        WeightsError: weights that are not there, torn, or of another network.
        SpaceError: a network of another package that cannot be made.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs' generators too.
        torch.default_generator.manual_seed(derive_seed(seed, "weights"))
        network = empty_network(name, num_classes)
    if weights != "none":
        _load_weights(network, read_weights(name, weights), where=weights)
    return network.to(memory_format=torch.channels_last)


def restore_network(name: str, tensors: dict[str, Tensor], *, where: str) -> Network:
    """A trained network from every one of its tensors, in eval mode and channels_last, on the CPU.

    Unlike `build_network`, which leaves another's classifier out, takes nothing that does not fit.

    Raises:
        WeightsError: a tensor is missing, too many or of another shape.
    """
    # What it draws is written over; nobody else's draws may change by it.
    with torch.random.fork_rng(devices=[]):
        layer = (CLASSIFIERS[name] if name in CLASSIFIERS else empty_network(name, 2)).layer_of_classes
        weight = tensors.get(f"{layer}.weight")
        network = empty_network(name, 1 if weight is None else max(weight.shape[:1].numel(), 1))
    try:
        network.model.load_state_dict(tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise WeightsError(f"{where}: must hold every tensor of {name} and no other, got: {first}") from None
    return network.to(memory_format=torch.channels_last).eval()


def empty_network(name: str, num_classes: int) -> Network:
    """The network `name` with weights that torch's generators draw."""
    if name not in CLASSIFIERS:
        return own_network(name, num_classes)
    network = CLASSIFIERS[name](_model(name, num_classes))
    network.is_replayable = network.is_foldable = True
    return network


def _model(name: str, num_classes: int) -> nn.Module:
    if name == "convnet_small":
        return SmallConvNet(num_classes)
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    return model


def _load_weights(network: Network, state: dict[str, Tensor], *, where: str) -> None:
    own, of_classes = network.model.state_dict(), f"{network.layer_of_classes}."
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    # The layer of classes may be another's; counters are missing from files of before torch 0.4.
    optional = {key for key in own if key.startswith(of_classes) or key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - fitting.keys() - optional)
    if missing:
        raise WeightsError(
            f"weights: {where}: must be of this network, got no {missing[0]} of its shape "
            f"({len(missing)} tensors missing); check network"
        )
    network.model.load_state_dict(fitting, strict=False)
