"""A second view that is a target: seen by the network that the first view saw, and learned nothing from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from gcc_search.training.networks import SmallClassifier, SmallConvNet, build_network
from gcc_search.training.views import view_features


class FailsWithoutGrad(nn.Module):
    def forward(self, features):
        if not torch.is_grad_enabled():
            raise MemoryError
        return features


@pytest.fixture
def network() -> SmallClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallClassifier(SmallConvNet(5)).double()


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=generator)
    return first, 2 * torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=generator) + 1


def as_target(network, first, second):
    return view_features(network, first, second, second_is_target=True).split(len(first))


def test_together_the_views_are_one_batch(network, views):
    found = view_features(network, *views, second_is_target=False)
    assert_close(found, network.features(torch.cat(views)), rtol=0, atol=0)


def test_the_first_view_is_seen_as_by_itself(network, views):
    assert_close(as_target(network, *views)[0], network.features(views[0]), rtol=0, atol=0)


def test_a_target_that_equals_the_first_view_is_seen_alike(network, views):
    first, second = as_target(network, views[0], views[0])
    assert_close(first, second)


def test_each_running_statistic_moves_on_at_its_own_rate(network, views):
    for number, norm in enumerate(stage[1] for stage in network.model.stages):
        norm.momentum = 0.1 if number % 2 else 0.3
    alone = copy.deepcopy(network)
    as_target(network, *views)
    alone.features(views[0])
    assert_close(network.state_dict(), alone.state_dict())


class Normalisations(TorchDispatchMode):
    """Counts batch normalisations forwards."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "batch_norm" in func.name() and "backward" not in func.name()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_convolutions_normalise_a_target_by_the_way(name, views):
    network = build_network(name, num_classes=5, weights="none", seed=0).double().train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    with Normalisations() as normalisations:
        first, second = as_target(network, views[0], views[0])
    assert normalisations.count == len(norms)
    assert_close(second, first)
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_target_is_normalised_by_the_statistics_of_the_first_view(network, views):
    network.model.stages = nn.Sequential(nn.BatchNorm2d(3)).double()
    _, second = as_target(network, *views)
    mean, variance = views[0].mean((0, 2, 3)), views[0].var((0, 2, 3), correction=0)
    assert_close(second, functional.batch_norm(views[1], mean, variance))


def test_running_statistics_move_on_by_the_first_view_alone(network, views):
    as_target(network, *views)
    found = {name: value.clone() for name, value in network.named_buffers()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = SmallClassifier(SmallConvNet(5)).double()
    other.features(views[0])
    assert_close(found, dict(other.named_buffers()))


def test_a_target_leaves_no_graph_and_the_gradients_are_the_first_views(network, views):
    first, second = as_target(network, *views)
    (at_second,) = torch.autograd.grad(second.sum(), [network.model.stages[0][0].weight], retain_graph=True)
    assert not at_second.any()
    found = torch.autograd.grad((first * second).sum(), list(network.model.stages.parameters()))
    expected = torch.autograd.grad(
        (network.features(views[0]) * second.detach()).sum(), list(network.model.stages.parameters())
    )
    assert_close(found, expected)


def test_the_network_trains_on_after_a_target_and_after_an_error(network, views):
    before = {name: value for name, value in network.named_buffers() if "num_batches" not in name}
    copies = {name: value.clone() for name, value in before.items()}
    network.model.stages.append(FailsWithoutGrad())
    with pytest.raises(MemoryError):
        as_target(network, *views)
    after = {name: value for name, value in network.named_buffers() if name in before}
    assert all(value is before[name] for name, value in after.items())
    assert not any(torch.equal(value, copies[name]) for name, value in after.items())
    assert all(module.training for module in network.modules())
    assert {module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
    assert not any("forward" in vars(module) for module in network.modules())


def test_in_evaluation_nothing_is_touched(network, views):
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _, second = as_target(network, *views)
    assert_close(second, network.features(views[1]))
    assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


def test_a_network_without_batch_normalisation_sees_a_target_as_it_is(views):
    network = build_network("convnext_tiny", num_classes=3, weights="none", seed=0).eval()
    first, second = as_target(network, *(view.float() for view in views))
    assert_close(second, network.features(views[1].float()))
    assert first.requires_grad
