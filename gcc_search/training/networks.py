"""Classifiers as "features -> global average pool -> head", the split that closed-form Grad-CAM needs.

No hooks: an in-place ReLU would make a hook see another tensor than the head does. Parameters keep torchvision's names, so that a
trained network loads into torchvision as it is.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gcc_search.errors import WeightsError
from gcc_search.saliency.shapes import FeatureMaps, Images, Logits, Pooled
from gcc_search.seeding import derive_seed

TORCHVISION_WEIGHTS = ("IMAGENET1K_V1", "DEFAULT")


class Network(nn.Module):
    """A classifier whose last feature maps and head can be called apart. `model` holds the parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def features(self, images: Images) -> FeatureMaps:
        """Output of the last stage before pooling: ResNet `layer4`, ConvNeXt `features`."""

    @property
    @abstractmethod
    def head(self) -> nn.Module:
        """Maps pooled features (B, K) to logits (B, C)."""

    def forward(self, images: Images) -> Logits:
        # The head runs in float32: logits feed the explanation, whose gradients bf16 would drown.
        features = self.features(images)
        with torch.autocast(features.device.type, enabled=False):
            logits: Logits = self.head(features.float().mean((2, 3)))
        return logits


class ResNetClassifier(Network):
    model: torchvision.models.ResNet

    def features(self, images: Images) -> FeatureMaps:
        m = self.model
        x = m.maxpool(m.relu(m.bn1(m.conv1(images))))
        maps: FeatureMaps = m.layer4(m.layer3(m.layer2(m.layer1(x))))
        return maps

    @property
    def head(self) -> nn.Module:
        return self.model.fc


class ConvNeXtClassifier(Network):
    model: torchvision.models.ConvNeXt

    def features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = self.model.features(images)
        return maps

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


class SmallConvNet(nn.Module):
    """Four stages for 64-pixel images: 64 -> 32 -> 16 -> 8, then one more at 8 x 8. 0.1 million parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 96)
        strides = (2, 2, 2, 1)
        self.stages = nn.Sequential(
            *(_stage(*sizes) for sizes in zip(widths[:-1], widths[1:], strides, strict=True))
        )
        self.fc = nn.Linear(widths[-1], num_classes)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SmallClassifier(Network):
    model: SmallConvNet

    def features(self, images: Images) -> FeatureMaps:
        maps: FeatureMaps = self.model.stages(images)
        return maps

    @property
    def head(self) -> nn.Module:
        return self.model.fc


def build_network(name: str, *, num_classes: int, weights: str, seed: int) -> Network:
    """The network `name` with `num_classes` outputs, in float32 and channels_last, on the CPU.

    Args:
        weights: `none` (random by `seed`), a torchvision name (fetched, or found in torch's cache), or a file
            (.pth or .safetensors). A classifier of another size is left out and starts at random.

    Raises:
        WeightsError: weights that are not there, torn, or of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network = _empty_network(name, num_classes)
    if weights != "none":
        _load_weights(network.model, _read_weights(name, weights), where=weights)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _empty_network(name: str, num_classes: int) -> Network:
    if name == "convnet_small":
        return SmallClassifier(SmallConvNet(num_classes))
    model = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    return ConvNeXtClassifier(model) if name.startswith("convnext") else ResNetClassifier(model)


def _read_weights(name: str, weights: str) -> dict[str, Tensor]:
    if weights in TORCHVISION_WEIGHTS:
        return _torchvision_weights(name, weights)
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(
            f"weights: {weights}: must be a file, none, or one of {', '.join(TORCHVISION_WEIGHTS)}, got nothing there"
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError, _unpickling_error()):
        raise WeightsError(f"weights: {weights}: must be a whole file of tensors, got a torn or foreign one; copy it again") from None


def _unpickling_error() -> type[Exception]:
    # Loaded here: this is the one place that meets files of torch's older, pickled form.
    from pickle import UnpicklingError

    return UnpicklingError


def _torchvision_weights(name: str, weights: str) -> dict[str, Tensor]:
    if name == "convnet_small":
        raise WeightsError(f"weights: {weights}: convnet_small has no published weights; use none, baseline or a file")
    entry = torchvision.models.get_model_weights(name)[weights]
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError):
        place = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[1]
        raise WeightsError(
            f"weights: {weights} of {name}: must be in torch's cache or reachable, got neither; put the file at {place}, or name a file"
        ) from None


def _load_weights(model: nn.Module, state: dict[str, Tensor], *, where: str) -> None:
    own = model.state_dict()
    classifier = {key for key in own if key.startswith(("fc.", "classifier."))}
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - fitting.keys() - classifier - counters)
    if missing:
        raise WeightsError(
            f"weights: {where}: must be of this network, got no {missing[0]} of its shape ({len(missing)} tensors missing); check `network`"
        )
    model.load_state_dict(fitting, strict=False)
