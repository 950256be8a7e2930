"""Heatmaps and the two terms of equation 4."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from gcc_search.saliency.geometry import Transforms, apply_transforms, move_heatmaps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import consistency_loss, is_degenerate, normalise, sparsity_loss, upsample

EXPONENTS = [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.fixture
def maps(generator):
    """Signed maps at image resolution, in float64."""
    return torch.randn(3, 12, 13, generator=generator, dtype=torch.float64)


@pytest.fixture
def heatmaps(maps):
    return normalise(maps)


def test_upsampled_cell_is_centred_where_its_receptive_field_is():
    maps = torch.tensor([[[0.0, 4.0], [0.0, 4.0]]])
    assert_close(upsample(maps, 4)[0], torch.tensor([0.0, 1.0, 3.0, 4.0]).expand(4, 4))


def test_heatmap_runs_from_zero_to_just_under_one(heatmaps):
    assert torch.equal(heatmaps.amin((1, 2)), torch.zeros(3, dtype=torch.float64))
    highest = heatmaps.amax((1, 2))
    assert ((highest > 0.999) & (highest < 1)).all()


def test_heatmap_ignores_scale_and_offset(maps):
    assert_close(normalise(5 * maps + 3), normalise(maps), rtol=0, atol=1e-5)


def test_heatmap_of_one_image_ignores_the_rest_of_the_batch(maps):
    assert torch.equal(normalise(maps)[1:2], normalise(maps[1:2]))


def test_gradient_of_a_heatmap_takes_its_eps_for_a_constant(maps):
    maps = maps[:1].clone().requires_grad_()
    eps = 1e-3 * maps.detach().std(correction=0) + 1e-6

    def with_constant_eps(m):
        return (m - m.min()) / (m.max() - m.min() + eps)

    assert torch.autograd.gradcheck(with_constant_eps, (maps,))
    weights = maps.detach().cos()
    (expected,) = torch.autograd.grad((weights * with_constant_eps(maps)).sum(), maps)
    (gradient,) = torch.autograd.grad((weights * normalise(maps)).sum(), maps)
    assert_close(gradient, expected)


@pytest.mark.parametrize("value", [0.0, 1.0, -37.3, 1e8, 1e-12])
def test_constant_map_is_degenerate_and_becomes_zero_without_gradient(value):
    raw = torch.full((1, 7, 7), value, requires_grad=True)
    maps = upsample(raw, 224)
    assert is_degenerate(maps).all()
    heatmaps = normalise(maps)
    assert torch.equal(heatmaps, torch.zeros(1, 224, 224))
    heatmaps.sum().backward()
    assert torch.equal(raw.grad, torch.zeros(1, 7, 7))


def test_constant_that_rounding_has_touched_is_degenerate(generator):
    signs = torch.randint(-2, 3, (1, 8, 8), generator=generator)
    maps = 37.3 * (1 + signs * torch.finfo(torch.float32).eps)
    assert maps.unique().numel() > 1
    assert is_degenerate(maps).all()
    assert not normalise(maps).any()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_map_with_one_other_cell_is_not_degenerate_at_any_scale(scale):
    maps = torch.ones(2, 7, 7)
    maps[1, 3, 3] = 1.001
    assert is_degenerate(scale * maps).tolist() == [True, False]


def test_map_that_is_not_a_number_stays_so():
    maps = torch.full((1, 4, 4), torch.nan)
    assert not is_degenerate(maps).any()
    assert normalise(maps).isnan().all()


def test_nearly_flat_map_has_bounded_slope():
    maps = torch.full((1, 8, 8), 1.0)
    maps[0, 0, 0] += 1e-5
    maps.requires_grad_()
    normalise(maps).sum().backward()
    # At most pixels / eps: 64 / 1e-6 would be the slope of a flat map under eps alone.
    assert maps.grad.abs().max() < 64 / 1e-6


@pytest.mark.parametrize("distance", ["ssim", "correlation"])
def test_equal_maps_are_perfectly_consistent(distance, heatmaps):
    loss = consistency_loss(heatmaps, heatmaps, distance=distance)
    assert_close(loss, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_distance_is_the_papers_unless_asked_otherwise(heatmaps):
    other = heatmaps.flip(2)
    assert torch.equal(consistency_loss(heatmaps, other), consistency_loss(heatmaps, other, distance="ssim"))


def test_opposite_maps_are_at_the_greatest_correlation_distance(heatmaps):
    loss = consistency_loss(heatmaps, 1 - heatmaps, distance="correlation")
    assert_close(loss, torch.full((3,), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("distance", ["ssim", "correlation"])
def test_gradients_of_consistency_are_those_of_finite_differences(distance, heatmaps):
    a, b = heatmaps[:1].clone().requires_grad_(), heatmaps[1:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: consistency_loss(x, y, distance=distance), (a, b))


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0])
def test_searched_sparsity_is_the_lit_share_to_the_power_of_one_over_p(p):
    heatmap = torch.zeros(1, 10, 10, dtype=torch.float64)
    heatmap[0, :3] = 1
    # The 1e-6 under the root lights every pixel by a thousandth.
    assert_close(float(sparsity_loss(heatmap, p=p)), (0.3 + 0.7 * 0.001**p) ** (1 / p), rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", EXPONENTS)
def test_searched_sparsity_is_between_zero_and_one_and_blind_to_resolution(p, heatmaps):
    loss = sparsity_loss(heatmaps, p=p)
    assert ((loss > 0) & (loss < 1)).all()
    assert_close(sparsity_loss(heatmaps.repeat_interleave(3, 1), p=p), loss)


def test_stand_in_for_p_zero_counts_a_pixel_at_tau_half():
    heatmap = torch.tensor([[[0.0, 0.1], [1.0, 0.0]]])
    assert_close(float(sparsity_loss(heatmap, p=0.0)), (0.5 + 1 / 1.01) / 4)


@pytest.mark.parametrize("p", EXPONENTS)
def test_gradients_of_searched_sparsity_are_those_of_finite_differences(p, heatmaps):
    assert torch.autograd.gradcheck(lambda h: sparsity_loss(h, p=p), (heatmaps.clone().requires_grad_(),))


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0])
def test_gradients_of_the_papers_norm_are_those_of_finite_differences(p, heatmaps):
    lit = (heatmaps + 0.01).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: sparsity_loss(h, p=p, form="paper"), (lit,))


@pytest.mark.parametrize(("p", "norm"), [(0.0, 2), (0.5, 13.9282032), (1.0, 7), (2.0, 5)])
def test_papers_norm_takes_the_heatmap_for_one_vector(p, norm):
    assert_close(float(sparsity_loss(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]]), p=p, form="paper")), float(norm))


@pytest.mark.parametrize(("p", "factor"), [(1.0, 50_176), (2.0, 224)])
def test_searched_beta_is_the_papers_times_a_known_factor(p, factor, generator):
    heatmap = torch.rand(1, 224, 224, generator=generator)
    paper = sparsity_loss(heatmap, p=p, form="paper")
    assert_close(factor * sparsity_loss(heatmap, p=p), paper, rtol=1e-4, atol=0)


@pytest.mark.parametrize("form", ["searched", "paper"])
@pytest.mark.parametrize("p", [0.25, 0.5, 1.0, 2.0])
def test_empty_and_half_empty_heatmaps_have_finite_gradients(form, p):
    heatmaps = torch.zeros(2, 8, 8)
    heatmaps[1, :4] = 0.5
    heatmaps[1, 4] = 1e-7
    heatmaps.requires_grad_()
    sparsity_loss(heatmaps, p=p, form=form).sum().backward()
    assert heatmaps.grad.isfinite().all()


def test_papers_norm_for_p_zero_has_no_gradient(heatmaps):
    assert not sparsity_loss(heatmaps.clone().requires_grad_(), p=0.0, form="paper").requires_grad


@pytest.mark.parametrize("distance", ["ssim", "correlation"])
def test_gradients_of_both_terms_reach_backbone_and_head(distance, generator):
    """The whole chain of equation 4 on a tiny network with a LayerNorm head, against finite differences."""
    images = torch.randn(2, 2, 12, 12, generator=generator, dtype=torch.float64)
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.6], [0.0, 0.3, 0.8, 0.7]], dtype=torch.float64)
    transforms = Transforms(boxes=boxes, flips=torch.tensor([True, False]))
    classes = torch.tensor([0, 2])
    network = TinyNetwork().double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=generator)

    def terms(*parameters):
        named = dict(zip(dict(network.named_parameters()), parameters, strict=True))
        of_image, of_moved = (
            upsample(functional_call(network, named, (x, classes)), 12)
            for x in (images, apply_transforms(transforms, images, 12))
        )
        moved_map = normalise(move_heatmaps(transforms, of_image, 12))
        consistency = consistency_loss(moved_map, normalise(of_moved), distance=distance)
        return consistency.mean() + sparsity_loss(normalise(of_image), p=1.0).mean()

    parameters = tuple(parameter.detach().requires_grad_() for parameter in network.parameters())
    # eps is a constant to the gradient but not to the finite differences: a thousandth of the slope.
    assert torch.autograd.gradcheck(terms, parameters, rtol=5e-3, atol=5e-3)


class TinyNetwork(nn.Module):
    """Two layers, then pooling, LayerNorm and a linear layer; returns maps, not logits."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.Tanh(), nn.Conv2d(4, 4, 2, stride=1))
        self.head = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))

    def forward(self, images, classes):
        return gradcam(self.features(images), self.head, classes)
