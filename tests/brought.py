"""A package of somebody's own that brings networks, as pip would leave it in a folder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gcc_search import plugins
from gcc_search.training import fresh_network

# `small` is `convnet_small` by other hands: equal weights, equal results.
SOURCE = """
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from gcc_search.training.networks import SmallConvNet
from gcc_search.training.own_network import OwnNetwork


class Small(SmallConvNet):
    def forward(self, images):
        return self.fc(self.stages(images).mean((2, 3)))


def small(num_classes):
    return OwnNetwork(Small(num_classes), features="stages", head="fc")


class Residual(ResNet):
    def forward_features(self, images):
        images = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(images))))


def residual(num_classes):
    model = Residual(BasicBlock, [1, 1, 1, 1], num_classes=num_classes)
    return OwnNetwork(model, features="forward_features", head="fc", last_stage="layer4")
"""
NAMES = {"own_small": "own_nets:small", "own_residual": "own_nets:residual"}


class Folder:
    """Where packages are brought to, ahead of all others on Python's path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def bring(self, source: str = SOURCE, names: Mapping[str, str] = NAMES, *, package: str = "own-nets") -> None:
        """The package with one module, `own_nets`, of this source, and entry points of these names."""
        module = package.replace("-", "_")
        (self.path / f"{module}.py").write_text(source)
        about = self.path / f"{module}-0.1.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n")
        entries = "".join(f"{name} = {place}\n" for name, place in names.items())
        (about / "entry_points.txt").write_text(f"[gcc_search.networks]\n{entries}")
        forget()


def forget() -> None:
    """What is known of packages in this process, as a new one would not."""
    sys.modules.pop("own_nets", None)
    plugins.brought_networks.cache_clear()
    plugins._version.cache_clear()
    fresh_network._built.cache_clear()


@contextlib.contextmanager
def folder_of_packages(path: Path, patch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """On the path of this process and of those that it starts."""
    patch.syspath_prepend(path)
    patch.setenv("PYTHONPATH", str(path))
    forget()
    yield Folder(path)
    forget()


@pytest.fixture
def packages(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A folder of packages, empty."""
    with folder_of_packages(tmp_path_factory.mktemp("site"), monkeypatch) as folder:
        yield folder


@pytest.fixture
def own_nets(packages: Folder) -> Folder:
    """The same, with `NAMES` brought."""
    packages.bring()
    return packages
