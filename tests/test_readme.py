"""README's Python does what it says, on the embedded images."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torchvision
from torch.testing import assert_close

from gcc_search.saliency.geometry import draw_transforms
from gcc_search.settings import Explanation
from gcc_search.space import load_space
from gcc_search.training.networks import CLASSIFIERS, build_network
from gcc_search.training.own_look import check_own
from gcc_search.training.terms import loss_terms
from tests.brought import packages

__all__ = ["packages"]

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def own_loop() -> ModuleType:
    module = ModuleType("own_loop")
    exec(code_with("def loss_of("), vars(module))
    return module


def code_with(part: str) -> str:
    """The one block of Python with this in it."""
    (code,) = (found for found in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if part in found)
    return str(code)


def test_the_loss_in_ones_own_loop_is_that_of_a_trial(own_loop, shapes):
    images, labels = shapes.train.images[:6] / 255, shapes.train.labels[:6].long()
    gradients, losses = [], []
    for ours in (False, True):
        network = build_network("resnet18", num_classes=8, weights="none", seed=0).train()
        generator = torch.Generator().manual_seed(1)
        if ours:
            sides = torch.full((6,), images.shape[-1])
            moved = draw_transforms(sides, sides, scale=(0.08, 1.0), generator=generator)
            terms = loss_terms(network, images, labels, moved, Explanation(alpha=1.0, beta=0.1))
            loss = terms.total(1.0, 0.1)
        else:
            loss = own_loop.loss_of(network.features, network.head, images, labels, generator)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert_close(losses[0], losses[1])
    assert_close(gradients[0], gradients[1])


def test_a_step_by_it_makes_the_loss_smaller(own_loop, shapes):
    images, labels = shapes.train.images[:16] / 255, shapes.train.labels[:16].long()
    network = build_network("convnet_small", num_classes=8, weights="none", seed=0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for _ in range(6):
        # The same transforms each time: what is left is what was learned.
        loss = own_loop.loss_of(network.features, network.head, images, labels, torch.Generator().manual_seed(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_its_space_file_is_one(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "space.yaml").write_text(text)
    space = load_space(tmp_path / "space.yaml")
    assert space.run_cap == 16
    assert space.weights == "IMAGENET1K_V1"
    assert all(hasattr(torchvision.models, network) for network in space.networks)


def test_every_network_is_named():
    assert [name for name in CLASSIFIERS if f"`{name}`" not in README] == []


def test_its_own_network_is_one_that_can_be_trained(packages):
    (toml,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    names = tomllib.loads(toml)["project"]["entry-points"]["gcc_search.networks"]
    packages.bring(code_with("OwnNetwork"), names, package="my-networks")
    network = build_network("my_net", num_classes=8, weights="none", seed=0)
    check_own(network, "my_net", 224, num_processes=2)
    assert network.map_side(224) == 14
