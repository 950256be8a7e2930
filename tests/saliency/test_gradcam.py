"""Maps against two published implementations; gradients against finite differences."""

import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from gcc_search.saliency.gradcam import gradcam

CLASSES = torch.tensor([3, 7])


class ConvNeXtHead(nn.Module):
    """LayerNorm2d, flatten, Linear: wants (batch, features, 1, 1)."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, pooled):
        return self.classifier(pooled[:, :, None, None])


class Explained(nn.Module):
    """From images to the maps of CLASSES."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images):
        return gradcam(self.backbone(images), self.head, CLASSES)


def resnet_parts(network):
    features = nn.Sequential(*list(network.children())[:-2])
    return network, features, network.fc, network.layer4


def convnext_parts(network):
    return network, network.features, ConvNeXtHead(network.classifier), network.features


def swin_parts(network):
    features = nn.Sequential(network.features, network.norm, network.permute)
    return network, features, network.head, network.permute


def efficientnet_parts(network):
    return network, network.features, network.classifier[1], network.features


def mobilenet_parts(network):
    return network, network.features, network.classifier, network.features


PARTS = {
    "resnet18": resnet_parts,
    "resnet50": resnet_parts,
    "efficientnet_b0": efficientnet_parts,
    "mobilenet_v3_large": mobilenet_parts,
    "convnext_tiny": convnext_parts,
    "swin_t": swin_parts,
}


@pytest.fixture(scope="module", params=PARTS)
def parts(request):
    """A whole network with random weights, its features, its head, and the layer whose maps are explained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.get_model(request.param, weights=None, num_classes=10).double().eval()
    return PARTS[request.param](network)


@pytest.fixture
def images(generator):
    return torch.randn(2, 3, 96, 96, generator=generator, dtype=torch.float64)


def norm_and_linear(generator, dtype=torch.float64):
    """A head that is not linear, with weights that are not at rest."""
    head = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 10)).to(dtype)
    for parameter in head.parameters():
        nn.init.normal_(parameter, generator=generator)
    return head


def test_map_is_captums(parts, images):
    network, features, head, layer = parts
    expected = LayerGradCam(network, layer).attribute(images, CLASSES, relu_attributions=False)
    assert_close(gradcam(features(images), head, CLASSES), expected[:, 0], rtol=1e-10, atol=1e-14)


def test_map_is_pytorch_grad_cams_before_its_relu(parts, images):
    network, features, head, layer = parts
    targets = [ClassifierOutputTarget(int(c)) for c in CLASSES]
    with GradCAM(network, [layer]) as cam:
        cam(images, targets)
        activations = cam.activations_and_grads.activations[0].numpy()
        gradients = cam.activations_and_grads.gradients[0].numpy()
        expected = cam.get_cam_image(images, layer, targets, activations, gradients)
    assert (expected < 0).any()
    assert_close(gradcam(features(images), head, CLASSES), torch.from_numpy(expected), rtol=1e-10, atol=1e-14)


def test_cells_sum_to_logit_minus_bias_for_a_linear_head(generator):
    head = nn.Linear(5, 10).double()
    features = torch.randn(2, 5, 7, 7, generator=generator, dtype=torch.float64)
    logits = head(features.mean((2, 3))) - head.bias
    assert_close(gradcam(features, head, CLASSES).sum((1, 2)), logits.gather(1, CLASSES[:, None])[:, 0])


def test_one_feature_map_is_scaled_by_its_weight():
    head = nn.Linear(1, 2, bias=False)
    nn.init.constant_(head.weight, -4.0)
    features = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]]]])
    assert_close(gradcam(features, head, torch.tensor([1])), torch.tensor([[[-1.0, -2.0], [-3.0, 0.0]]]))


def test_mirrored_features_give_the_mirrored_map(generator):
    head = norm_and_linear(generator)
    features = torch.randn(2, 5, 4, 6, generator=generator, dtype=torch.float64)
    assert_close(gradcam(features.flip(3), head, CLASSES), gradcam(features, head, CLASSES).flip(2))


def test_map_of_one_image_ignores_the_rest_of_the_batch(generator):
    head = norm_and_linear(generator)
    features = torch.randn(2, 5, 4, 6, generator=generator, dtype=torch.float64)
    assert_close(gradcam(features, head, CLASSES)[:1], gradcam(features[:1], head, CLASSES[:1]))


def test_closed_form_and_autograd_agree_in_map_and_gradients(generator):
    linear = nn.Linear(5, 10).double()
    features = torch.randn(2, 5, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    results = []
    for head in (linear, nn.Sequential(linear)):
        maps = gradcam(features, head, CLASSES)
        results.append((maps, *torch.autograd.grad(maps.square().sum(), [features, linear.weight])))
    for closed_form, by_autograd in zip(*results, strict=True):
        assert_close(closed_form, by_autograd)


@pytest.mark.parametrize("kind", ["linear", "norm and linear"])
def test_gradients_of_backbone_and_head_are_those_of_finite_differences(kind, generator):
    backbone = nn.Sequential(nn.Conv2d(2, 5, 3, stride=2), nn.Tanh()).double()
    head = nn.Linear(5, 10).double() if kind == "linear" else norm_and_linear(generator)
    network = Explained(backbone, head)
    names = [name for name, _ in network.named_parameters()]
    images = torch.randn(2, 2, 7, 7, generator=generator, dtype=torch.float64)

    def maps_of(*parameters):
        return functional_call(network, dict(zip(names, parameters, strict=True)), (images,))

    assert torch.autograd.gradcheck(maps_of, tuple(p.detach().requires_grad_() for p in network.parameters()))


@pytest.mark.parametrize("kind", ["linear", "norm and linear"])
def test_detached_head_leaves_the_map_and_takes_no_gradient(kind, generator):
    head = nn.Linear(5, 10).double() if kind == "linear" else norm_and_linear(generator)
    features = torch.randn(2, 5, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    maps = gradcam(features, head, CLASSES, detach_head=True)
    assert_close(maps, gradcam(features, head, CLASSES))
    maps.sum().backward()
    assert all(parameter.grad is None for parameter in head.parameters())
    # v is a constant: the gradient is v / HW, the same in every cell.
    assert_close(features.grad, features.grad[:, :, :1, :1].expand_as(features))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", ["linear", "norm and linear"])
def test_map_is_the_same_without_grad(mode, kind, generator):
    head = nn.Linear(5, 10).double() if kind == "linear" else norm_and_linear(generator)
    features = torch.randn(2, 5, 4, 4, generator=generator, dtype=torch.float64)
    with mode():
        maps = gradcam(features.clone(), head, CLASSES)
    assert not maps.requires_grad
    assert_close(maps.clone(), gradcam(features, head, CLASSES).detach())


def test_half_precision_features_under_autocast_give_a_float32_map(generator):
    head = norm_and_linear(generator, torch.float32)
    features = torch.randn(2, 5, 4, 4, generator=generator).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        maps = gradcam(features, head, CLASSES)
    assert_close(maps, gradcam(features.float(), head, CLASSES), rtol=0, atol=0)


def test_cells_sum_to_zero_after_a_layer_norm(generator):
    """It removes the scale of its input, so no logit rises along the input itself."""
    head = nn.Sequential(nn.LayerNorm(5, eps=0.0), nn.Linear(5, 10)).double()
    features = torch.randn(2, 5, 4, 4, generator=generator, dtype=torch.float64)
    sums = gradcam(features, head, CLASSES).sum((1, 2))
    assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-12)
