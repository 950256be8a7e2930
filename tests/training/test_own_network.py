"""Networks that other packages bring: as good as ours, and refused in a line where they are not what they must be."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from torch.testing import assert_close

from gcc_search.errors import SpaceError, WeightsError
from gcc_search.saliency.geometry import draw_transforms
from gcc_search.settings import Explanation
from gcc_search.training.learner import Learner
from gcc_search.training.networks import build_network, restore_network
from gcc_search.training.own_network import OwnNetwork, own_network
from gcc_search.training.terms import loss_terms
from gcc_search.training.views import view_features
from tests.brought import SOURCE, own_nets, packages

__all__ = ["own_nets", "packages"]

DETACHED = ("none", "second-view", "head")


def build(name: str, *, seed: int = 3) -> OwnNetwork:
    network = build_network(name, num_classes=5, weights="none", seed=seed)
    assert isinstance(network, OwnNetwork)
    return network


def gradients_of(network, explanation: Explanation) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 64, 64, generator=generator, dtype=next(network.parameters()).dtype)
    frame = torch.full((4,), 64)
    moved = draw_transforms(frame, frame, scale=(0.5, 1.0), generator=generator)
    terms = loss_terms(network.train(), images, torch.tensor([0, 1, 2, 3]), moved, explanation)
    terms.total(1.0, 0.1).backward()
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("detach", DETACHED)
@pytest.mark.usefixtures("own_nets")
def test_a_step_of_a_network_that_is_ours_by_other_hands_is_the_same(detach):
    ours = build_network("convnet_small", num_classes=5, weights="none", seed=3)
    explanation = Explanation(alpha=1.0, beta=0.1, detach=detach)
    found, expected = (gradients_of(network.double(), explanation) for network in (build("own_small"), ours))
    # Of a network of ours convolutions normalise a detached view by the way: in another order of sums.
    tolerance = 1e-9 if detach == "second-view" else 0.0
    assert_close(found, expected, rtol=tolerance, atol=1e-2 * tolerance)


@pytest.mark.usefixtures("own_nets")
def test_features_by_a_method_have_captums_maps():
    network, images = build("own_residual").eval(), torch.randn(2, 3, 64, 64)
    classes = torch.tensor([1, 4])
    expected = LayerGradCam(network.model, network.last_stage).attribute(images, classes, relu_attributions=False)
    assert_close(network.maps(network.features(images), classes), expected[:, 0], rtol=1e-4, atol=1e-6)
    assert network.map_side(64) == 2
    assert network.map_side(96) == 3


@pytest.mark.usefixtures("own_nets")
def test_a_look_at_a_network_changes_nothing_of_it():
    network = build("own_residual").train()
    network.model.layer1.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    network.map_side(64)
    assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert network.training
    assert network.model.layer2.training
    assert not network.model.layer1.training


@pytest.mark.usefixtures("own_nets")
def test_a_trained_network_is_restored_with_as_many_classes_as_it_had():
    network = build("own_residual")
    restored = restore_network("own_residual", dict(network.model.state_dict()), where="here")
    assert restored.num_classes == 5
    assert_close(dict(restored.model.state_dict()), dict(network.model.state_dict()), rtol=0, atol=0)
    with pytest.raises(WeightsError, match=r"^here: must hold every tensor of own_residual and no other"):
        restore_network("own_residual", {"fc.weight": torch.zeros(5, 512)}, where="here")


@pytest.mark.usefixtures("own_nets")
def test_published_weights_are_of_networks_of_ours_alone():
    with pytest.raises(WeightsError) as caught:
        build_network("own_small", num_classes=5, weights="IMAGENET1K_V1", seed=0)
    told = "weights: IMAGENET1K_V1: own_small has no published weights; use none, baseline or a file"
    assert str(caught.value) == told


@pytest.mark.usefixtures("own_nets")
def test_weights_from_a_file_start_another_layer_of_classes(tmp_path):
    state, path = build("own_small").model.state_dict(), tmp_path / "weights.pth"
    torch.save(state, path)
    loaded = build_network("own_small", num_classes=7, weights=str(path), seed=0).model.state_dict()
    assert loaded["fc.weight"].shape[0] == 7
    assert all(torch.equal(loaded[name], state[name]) for name in state if not name.startswith("fc."))


# Of `own_small`'s factory: what it gives instead, and what is said of that.
WRONG = {
    "return Small(num_classes)": "must give a gcc_search.training.network.Network, such as an OwnNetwork, got Small",
    "return OwnNetwork(Small(num_classes), features='stages', head='body')": (
        """must be made by its factory, got ValueError: "body" must be a part of Small, got no such name"""
    ),
    "return OwnNetwork(Small(num_classes), features='stages', head='stages')": (
        """must be made by its factory, got ValueError: head must be a linear layer, or end in one, got "stages\""""
    ),
    "return OwnNetwork(Small(num_classes), features='fc.in_features', head='fc')": (
        """must be made by its factory, got ValueError: features must be a submodule or method, got "fc.in_features\""""
    ),
    "return OwnNetwork(Small(num_classes), features='forward', head='fc')": (
        "must be made by its factory, got ValueError: last_stage must be the submodule whose output the features are"
    ),
    "return OwnNetwork(Small(num_classes + 1), features='stages', head='fc')": "must give 5 logits for as many classes",
    "return OwnNetwork(Small(num_classes).double(), features='stages', head='fc')": "must give parameters in float32",
    "return 1 / 0": "must be made by its factory, got ZeroDivisionError: division by zero",
    "net = Small(num_classes); net.other = net.fc; return OwnNetwork(net, features='stages', head='fc')": (
        "must give parameters that share no memory"
    ),
    "net = Small(num_classes); net.norm = nn.BatchNorm1d(3, momentum=None)\n    return "
    "OwnNetwork(net, features='stages', head='fc')": "must give batch normalisations with a momentum",
}


@pytest.mark.parametrize(("body", "message"), WRONG.items(), ids=[*map(str, range(len(WRONG)))])
def test_a_factory_that_gives_something_else_is_told_in_a_line(packages, body, message):
    packages.bring(SOURCE + f"\n\ndef small(num_classes):\n    {body}\n")
    with pytest.raises(SpaceError) as caught:
        own_network("own_small", 5)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("networks: own_small: ")
    assert message in line
    assert line.endswith("; mend it")


# Of `Small`: its forward pass or stages, and what is said when it is asked for the side of its maps at 64 pixels.
UNFIT = {
    "    def forward(self, images):\n        return self.fc(self.stages(images).amax((2, 3)))\n": (
        "networks: Unfit: its logits must be fc of the mean of stages, got others; name other parts"
    ),
    "    def forward(self, images):\n        return self.fc(self.stages(images[:, :, :32]).mean((2, 3)))\n": (
        "networks: Unfit: its logits must be fc of the mean of stages, got others"
    ),
    "    def forward(self, images):\n        assert images.shape[2] == 96\n": (
        "image_size: must be one that Unfit takes, got 64: AssertionError"
    ),
    "    def __init__(self, n):\n        super().__init__(n)\n"
    "        self.stages = nn.Sequential(self.stages, nn.Flatten())\n"
    "    def forward(self, images):\n        return self.fc(self.stages(images)[:, :96])\n": (
        "networks: Unfit: stages must give maps (batch, channels, side, side) of square images, got [2, 6144] of 2"
    ),
}


@pytest.mark.parametrize(("body", "message"), UNFIT.items(), ids=[*map(str, range(len(UNFIT)))])
def test_parts_that_are_not_what_they_are_said_to_be_are_told_before_training(packages, body, message):
    made = "\n\ndef small(n):\n    return OwnNetwork(Unfit(n), features='stages', head='fc')\n"
    packages.bring(f"{SOURCE}\n\nclass Unfit(Small):\n{body}{made}")
    network = build("own_small")
    with pytest.raises(SpaceError) as caught:
        network.map_side(64)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(message)


@pytest.mark.usefixtures("own_nets")
def test_a_step_is_the_same_when_blocks_are_computed_again():
    kept, recomputed = build("own_small"), build("own_small")
    recomputed.is_recomputed = True
    recomputed.map_side(64)
    explanation = Explanation(alpha=1.0, beta=0.1)
    assert_close(gradients_of(recomputed, explanation), gradients_of(kept, explanation), rtol=0, atol=0)


def test_a_part_that_changes_its_input_in_place_is_computed_with_the_one_before(packages):
    stages = "nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.ReLU(inplace=True), nn.Conv2d(8, 96, 3))"
    packages.bring(
        SOURCE + f"\n\ndef small(n):\n    net = Small(n)\n    net.stages = {stages}\n"
        "    return OwnNetwork(net, features='stages', head='fc')\n"
    )
    network = build("own_small")
    network.is_recomputed = True
    network.map_side(64)
    assert [len([*block]) for block in network.blocks] == [2, 1]


HIDDEN = """

class Rectified(nn.Module):
    def forward(self, images):
        return images.relu_()


def small(n):
    net = Small(n)
    net.stages = nn.Sequential(nn.Conv2d(3, 96, 3, stride=8), Rectified())
    return OwnNetwork(net, features="stages", head="fc")
"""


@pytest.mark.parametrize(
    ("name", "why"),
    [("own_small", "of whose parts one changes its input in place"), ("own_residual", "whose features are no nn.Seq")],
)
def test_what_cannot_be_computed_again_is_told_before_training(packages, name, why):
    packages.bring(SOURCE + HIDDEN)
    network = build(name)
    assert network.map_side(64) > 1
    network = build(name)
    network.is_recomputed = True
    with pytest.raises(SpaceError, match=rf"^activation_checkpointing: must be false for a network {why}"):
        network.map_side(64)


BESIDE = """

class Beside(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 96, 3, stride=8), nn.BatchNorm2d(96)

    def forward(self, images):
        images = self.convolution(images)
        return images + self.norm(images)


def small(n):
    net = Small(n)
    net.stages = nn.Sequential(Beside())
    return OwnNetwork(net, features="stages", head="fc")
"""


def test_a_detached_view_is_right_where_a_normalisation_is_not_all_that_reads_a_convolution(packages):
    packages.bring(SOURCE + BESIDE)
    network, images = build("own_small").double().train(), torch.randn(4, 3, 64, 64, dtype=torch.float64)
    first, second = images.chunk(2)
    found = view_features(network, first, second, second_is_target=True)[2:]
    convolution = network.model.stages[0].convolution
    seen, made = convolution(first), convolution(second)
    deviation = seen.var((0, 2, 3), keepdim=True, correction=0).add(1e-5).sqrt()
    assert_close(found, made + (made - seen.mean((0, 2, 3), keepdim=True)) / deviation, rtol=1e-9, atol=1e-9)


TWICE = """

class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(96, 96, 1), nn.BatchNorm2d(96)

    def forward(self, images):
        return self.norm(self.convolution(self.norm(self.convolution(images))))


def small(n):
    net = Small(n)
    net.stages = nn.Sequential(*net.stages, Twice())
    return OwnNetwork(net, features="stages", head="fc")
"""


def test_a_detached_view_needs_normalisations_that_are_gone_through_once(packages):
    packages.bring(SOURCE + TWICE)
    network = build("own_small")
    assert network.map_side(64) == 8
    with pytest.raises(SpaceError, match=r"^explanation\.detach: second-view must go with a network that goes through"):
        gradients_of(network, Explanation(alpha=1.0, detach="second-view"))
    gradients_of(build("own_small"), Explanation(alpha=1.0))


def test_normalisations_that_are_left_out_do_no_harm_to_a_detached_view(packages):
    unused = "net = Small(n); net.other = nn.BatchNorm2d(3)"
    packages.bring(
        f"{SOURCE}\n\ndef small(n):\n    {unused}\n    return OwnNetwork(net, features='stages', head='fc')\n"
    )
    found = gradients_of(build("own_small"), Explanation(alpha=1.0, detach="second-view"))
    assert [gradient is None for gradient in found][-2:] == [True, True]
    assert not any(gradient is None for gradient in found[:-2])


@pytest.mark.usefixtures("own_nets")
def test_no_graph_is_made_of_a_network_that_does_not_ask_for_it():
    assert not build("own_small").is_replayable
    model = build("own_small").model
    asking = OwnNetwork(model, features="stages", head="fc", is_replayable=True)
    assert asking.is_replayable
    assert Learner(asking, loss_terms).is_replayable
    assert not Learner(build("own_small"), loss_terms).is_replayable
