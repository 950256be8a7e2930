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
from gcc_search.training.own_look import check_own
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
    "return OwnNetwork(Small(num_classes + 1), features='stages', head='fc')": (
        "must give 5 logits by the last linear layer of its head, got 6"
    ),
    "return OwnNetwork(Small(num_classes).double(), features='stages', head='fc')": "must give parameters in float32",
    "net = Small(num_classes); net.fc = nn.Sequential(nn.BatchNorm1d(96), net.fc)\n    return "
    "OwnNetwork(net, features='stages', head='fc')": "got ValueError: head must hold no batch normalisation",
    "net = Small(num_classes); nn.utils.parametrizations.weight_norm(net.fc)\n    return "
    "OwnNetwork(net, features='stages', head='fc')": "must give logits by a plain linear layer, got fc without",
    "net = Small(num_classes); net.other = nn.LazyLinear(3)\n    return "
    "OwnNetwork(net, features='stages', head='fc')": "must give a network that can be looked at and copied",
    "net = Small(num_classes); net.mask = nn.Buffer(torch.tensor([0, -torch.inf]))\n    return "
    "OwnNetwork(net, features='stages', head='fc')": "must give a state of finite numbers, got others in mask",
    "net = Small(num_classes); net.deep = nn.Parameter(torch.ones(1, 1, 1, 1, 1))\n    return "
    "OwnNetwork(net, features='stages', head='fc')": "must give parameters in float32 with at most four dimensions",
    "raise SystemExit('no licence')": "must be made by its factory, got SystemExit: no licence",
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


FORWARD = "    def forward(self, images):\n        return "
STAGES = "    def __init__(self, n):\n        super().__init__(n)\n        "
# Of `Small`: its forward pass or parts, and what is said of it before it is trained on images of 64 pixels.
UNFIT = {
    FORWARD + "self.fc(self.stages(images).amax((2, 3)))": "its logits must be fc of the mean of stages, got others",
    FORWARD + "self.fc(self.stages(images[:, :, :32]).mean((2, 3)))": "its logits must be fc of the mean of stages",
    FORWARD + "self.fc(self.stages(images).mean((2, 3))) * (images.shape[2] == 96 or 1 / 0)": (
        "must give logits, features and maps of images of 64 pixels (image_size), got ZeroDivisionError"
    ),
    STAGES + "self.stages = nn.Sequential(self.stages, nn.AdaptiveAvgPool2d((4, 6)))": (
        "stages must give maps (batch, channels, side, side) of square images, got [2, 96, 4, 6] of 2"
    ),
    # Their start hides what they are: logits that are 0, a block that adds nothing yet.
    STAGES
    + "nn.init.zeros_(self.fc.weight), nn.init.zeros_(self.fc.bias)\n"
    + FORWARD
    + "self.fc(self.stages(images).amax((2, 3)))": "its logits must be fc of the mean of stages, got others",
    STAGES
    + "self.scale, self.last = nn.Parameter(torch.full((96, 1, 1), 1e-6)), nn.Conv2d(96, 96, 1)\n"
    + "    def forward(self, images):\n        maps = self.stages(images)\n"
    + "        return self.fc((maps + self.scale * self.last(maps)).mean((2, 3)))": "its logits must be fc of the mean",
    STAGES + "norm = nn.BatchNorm2d(96)\n"
    "        self.stages = nn.Sequential(*self.stages, norm, nn.Conv2d(96, 96, 1), Again(norm))\n": (
        "it must go through each batch normalisation once, got one that it goes through again"
    ),
}
AGAIN = """

class Again(nn.Module):
    def __init__(self, module):
        super().__init__()
        self._again = [module]

    def forward(self, images):
        return self._again[0](images)


class Unfit(Small):
"""


@pytest.mark.parametrize(("body", "message"), UNFIT.items(), ids=[*map(str, range(len(UNFIT)))])
def test_parts_that_are_not_what_they_are_said_to_be_are_told_before_training(packages, body, message):
    made = "\n\ndef small(n):\n    return OwnNetwork(Unfit(n), features='stages', head='fc')\n"
    packages.bring(f"{SOURCE}{AGAIN}{body}\n{made}")
    with pytest.raises(SpaceError) as caught:
        check_own(build("own_small"), "own_small", 64)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"networks: own_small: {message}")


def test_a_forward_pass_may_go_through_the_features_part_by_part(packages):
    part_by_part = "images = self.stages[0](images)\n        return self.fc(self.stages[1:](images).mean((2, 3)))"
    packages.bring(SOURCE.replace("return self.fc(self.stages(images).mean((2, 3)))", part_by_part))
    check_own(build("own_small"), "own_small", 64)


def test_a_last_stage_whose_output_is_another_is_told_before_training(packages):
    packages.bring(SOURCE.replace('last_stage="layer4"', 'last_stage="layer3"'))
    with pytest.raises(SpaceError, match="last_stage must give what forward_features gives, got something else from l"):
        check_own(build("own_residual"), "own_residual", 64)


CLASS = """

class Mine(PooledNetwork):
    layer_of_classes = "fc"

    def _features(self, images):
        return self.model.stages(images)

    def map_side(self, image_size):
        return image_size // SHARE

    @property
    def head(self):
        return self.model.fc

    blocks = last_stage = None


def small(num_classes):
    return Mine(Small(num_classes))
"""


def test_a_class_of_ones_own_is_looked_at_as_well(packages):
    source = SOURCE + "\nfrom gcc_search.training.network import PooledNetwork\n"
    packages.bring(source + CLASS.replace("SHARE", "8"))
    network = own_network("own_small", 5)
    check_own(network, "own_small", 64)
    assert not network.is_foldable
    assert not network.is_replayable
    packages.bring(source + CLASS.replace("SHARE", "8").replace("stages(images)", "stages(images) + 1"))
    with pytest.raises(SpaceError, match="the logits of its features must be those of its forward pass, got others"):
        check_own(own_network("own_small", 5), "own_small", 64)
    packages.bring(source + CLASS.replace("SHARE", "16"))
    with pytest.raises(SpaceError, match=r"its maps must have the side that map_side says, 4, got \[2, 8, 8\] of 2"):
        check_own(own_network("own_small", 5), "own_small", 64)


@pytest.mark.usefixtures("own_nets")
@pytest.mark.parametrize("name", ["own_small", "own_residual"])
def test_a_look_at_a_network_of_ours_by_other_hands_finds_nothing_and_changes_nothing(name):
    network = build(name).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    check_own(network, name, 64, num_processes=2)
    assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert network.training


COSINES = """

class Cosines(nn.Linear):
    def forward(self, pooled):
        return 16 * nn.functional.linear(nn.functional.normalize(pooled), nn.functional.normalize(self.weight))


class Normalised(nn.Sequential):
    def forward(self, pooled):
        return super().forward(nn.functional.normalize(pooled))


def small(n):
    net = Small(n)
    net.fc = HEAD
    return OwnNetwork(net, features="stages", head="fc")
"""


@pytest.mark.parametrize("head", ["Cosines(96, n)", "Normalised(nn.Linear(96, 20), nn.ReLU(), nn.Linear(20, n))"])
def test_a_head_that_only_looks_like_a_layer_of_torchs_has_captums_maps(packages, head):
    packages.bring(SOURCE + COSINES.replace("HEAD", head))
    network, images = build("own_small").double().eval(), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    classes = torch.tensor([1, 4])
    expected = LayerGradCam(network.model, network.last_stage).attribute(images, classes, relu_attributions=False)
    assert_close(network.maps(network.features(images), classes), expected[:, 0], rtol=1e-9, atol=1e-12)
    check_own(build("own_small"), "own_small", 64)


def test_a_head_that_is_hooked_into_is_told_before_training(packages):
    hooked = "net.fc.register_forward_hook(lambda layer, given, logits: logits.tanh())"
    made = "return OwnNetwork(net, features='stages', head='fc')"
    packages.bring(f"{SOURCE}\n\ndef small(n):\n    net = Small(n)\n    {hooked}\n    {made}\n")
    with pytest.raises(SpaceError, match=r"its maps must be by the gradients of fc, got others; leave out what hooks"):
        check_own(build("own_small"), "own_small", 64)


def test_dropout_within_a_head_is_not_in_its_maps(packages):
    head = "nn.Sequential(nn.Sequential(nn.Dropout(0.5), nn.Linear(96, 20)), nn.ReLU(), nn.Linear(20, n))"
    packages.bring(SOURCE + COSINES.replace("HEAD", head))
    network, features = build("own_small").train(), torch.rand(2, 96, 4, 4)
    classes = torch.tensor([1, 4])
    maps = network.maps(features, classes)
    assert_close(network.maps(features, classes), maps, rtol=0, atol=0)
    assert not torch.equal(network.logits(features), network.logits(features))
    assert_close(network.eval().maps(features, classes), maps, rtol=0, atol=0)


def test_a_factory_that_gives_the_same_one_again_is_no_way_from_one_trial_to_another(packages):
    packages.bring(
        f"{SOURCE}\n\nKEPT = Small(5)\n\n\ndef small(n):\n    return OwnNetwork(KEPT, features='stages', head='fc')\n"
    )
    first, second = build("own_small"), build("own_small")
    torch.nn.init.zeros_(first.model.fc.weight)
    assert second.model.fc.weight.abs().max() > 0


@pytest.mark.usefixtures("own_nets")
def test_a_step_is_the_same_when_blocks_are_computed_again():
    kept, recomputed = build("own_small"), build("own_small")
    recomputed.is_recomputed = True
    check_own(recomputed, "own_small", 64)
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
    check_own(network, "own_small", 64)
    assert [len([*block]) for block in network.blocks] == [2, 1]


PARTS = """

class Rectified(nn.Module):
    def forward(self, images):
        return images.relu_()


class Skipping(nn.Sequential):
    def forward(self, images):
        return self[1](self[0](images)) + self[0](images)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = nn.Buffer(torch.zeros(1))

    def forward(self, images):
        if self.training:
            self.seen += len(images)
        return images


def small(n):
    net = Small(n)
    net.stages = MADE
    return OwnNetwork(net, features="stages", head="fc")
"""


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ("nn.Sequential(nn.Conv2d(3, 96, 3, stride=8), Rectified())", "of whose parts one changes its input in place"),
        ("Skipping(nn.Conv2d(3, 96, 3, stride=8), nn.Conv2d(96, 96, 1))", "whose features are no nn.Sequential"),
        ("nn.Sequential(nn.Conv2d(3, 96, 3, stride=8), Counting())", "of whose parts one has a state that each pass"),
    ],
)
def test_what_cannot_be_computed_again_is_told_before_training(packages, stages, why):
    packages.bring(SOURCE + PARTS.replace("MADE", stages))
    network = build("own_small")
    check_own(network, "own_small", 64)
    network.is_recomputed = True
    with pytest.raises(SpaceError, match=rf"^activation_checkpointing: must be false for a network {why}"):
        check_own(network, "own_small", 64)


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


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("net.after = nn.Linear(2, 3)", "leaves parameters out, got after.weight, which has no gradient"),
        ("net.stages.append(nn.Dropout2d(0.1))", "with this torch.nn.modules.dropout.Dropout2d"),
        ("net.stages.append(nn.BatchNorm2d(96, affine=False))", "with this torch.nn.modules.batchnorm.BatchNorm2d"),
        ("net.stages.append(type('Own', (nn.BatchNorm2d,), {})(96))", "with this own_nets.Own"),
        ("net.stages.append(StochasticDepth(0.1, 'batch'))", "with this torchvision.ops.stochastic_depth.Stoch"),
        ("net.stages.append(nn.InstanceNorm2d(96, track_running_stats=True))", "with this torch.nn.modules.instance"),
    ],
)
def test_what_several_processes_would_train_otherwise_is_told_before_training(packages, after, message):
    source = f"{SOURCE}\nfrom torchvision.ops import StochasticDepth\n"
    made = "return OwnNetwork(net, features='stages', head='fc')"
    packages.bring(f"{source}\n\ndef small(n):\n    net = Small(n)\n    {after}\n    {made}\n")
    check_own(build("own_small"), "own_small", 64)
    with pytest.raises(SpaceError) as caught:
        check_own(build("own_small"), "own_small", 64, num_processes=2)
    assert str(caught.value).startswith("resources.gpus_per_trial: must be at most 1 for a network ")
    assert message in str(caught.value)
