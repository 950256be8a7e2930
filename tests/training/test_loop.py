"""Equation 4 against a plain reference, and one epoch of training step by step."""

from __future__ import annotations

import itertools

import pytest
import torch
import torchvision.transforms.v2.functional as torchvision_functional
from torch.nn import functional
from torch.testing import assert_close

from gcc_search.saliency import resampling
from gcc_search.saliency.geometry import Transforms, apply_transforms, draw_transforms, move_heatmaps
from gcc_search.saliency.gradcam import gradcam
from gcc_search.saliency.losses import consistency_loss, normalise, sparsity_loss
from gcc_search.saliency.photometry import Photometry, draw_photometry
from gcc_search.settings import Explanation, Recipe
from gcc_search.training.loop import EpochPlan, train_epoch
from gcc_search.training.networks import SmallClassifier, SmallConvNet, build_network
from gcc_search.training.normalisation import recoloured
from gcc_search.training.showing import prepare
from gcc_search.training.terms import loss_terms, matrices_for, terms_of_maps

CPU = torch.device("cpu")
BOTH_TERMS = Explanation(alpha=1.0, beta=0.1)


class Watched(SmallClassifier):
    """Remembers which images it saw and which features it gave."""

    def features(self, images):
        self.seen, self.given = images, super().features(images)
        if self.given.requires_grad:
            self.given.retain_grad()
        return self.given


@pytest.fixture
def network() -> Watched:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Watched(SmallConvNet(5)).double()


@pytest.fixture
def batch():
    """Four images at 32 pixels, their labels and their transforms."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=generator)
    frame = torch.full((4,), 32)
    return x, torch.tensor([0, 1, 2, 3]), draw_transforms(frame, frame, scale=(0.5, 1.0), generator=generator)


def reference_map(network, features, classes):
    """Grad-CAM as the paper writes it: weights are the mean gradient over the feature map."""
    scores = network.head(features.mean((2, 3))).gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(scores, features, create_graph=True)
    maps = (gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True)
    return functional.interpolate(maps, (32, 32), mode="bilinear")[:, 0]


def test_pixels_give_the_terms_that_raw_maps_give(network, batch, monkeypatch):
    monkeypatch.setattr(resampling, "_LEAST_PIXELS_A_CELL", 0)
    assert matrices_for(BOTH_TERMS, batch[2], 4, 32) is not None
    by_raw_maps = loss_terms(network, *batch, BOTH_TERMS)
    monkeypatch.setattr(resampling, "_MOST_CELLS", 0)
    assert matrices_for(BOTH_TERMS, batch[2], 4, 32) is None
    by_pixels = loss_terms(network, *batch, BOTH_TERMS)
    assert_close(vars(by_pixels), vars(by_raw_maps))


def reference_terms(network, x, labels, transforms, explanation):
    """Equation 4's terms, written down plainly for two views."""
    features = network.features(torch.cat([x, apply_transforms(transforms, x, 32)]))
    logits = network.head(features.mean((2, 3)))
    predicted = logits.argmax(1)
    classes = predicted if explanation.cam_class == "own" else predicted[:4].repeat(2)
    first, second = reference_map(network, features, classes).split(4)
    moved = apply_transforms(transforms, first[:, None], 32)[:, 0]
    cross_entropy = -logits[:4].log_softmax(1).gather(1, labels[:, None])[:, 0]
    consistency = consistency_loss(normalise(moved), normalise(second), distance=explanation.distance)
    return cross_entropy, consistency, sparsity_loss(normalise(first), p=explanation.p, form=explanation.sparsity)


def gradients(network, loss) -> dict[str, torch.Tensor]:
    names, parameters = zip(*network.model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return dict(zip(names, found, strict=True))


@pytest.mark.parametrize("distance", ["ssim", "correlation"])
@pytest.mark.parametrize(("p", "sparsity"), [(1.0, "searched"), (0.5, "searched"), (2.0, "paper")])
@pytest.mark.parametrize("cam_class", ["first-view", "own"])
def test_the_terms_are_the_papers(network, batch, distance, p, sparsity, cam_class):
    explanation = Explanation(alpha=1, beta=1, distance=distance, p=p, sparsity=sparsity, cam_class=cam_class)
    terms = loss_terms(network, *batch, explanation)
    expected = reference_terms(network, *batch, explanation)
    assert_close((terms.cross_entropy, terms.consistency, terms.sparsity), expected, rtol=0, atol=1e-10)


def test_without_alpha_and_beta_the_loss_is_cross_entropy_of_one_view(network, batch):
    x, labels, transforms = batch
    terms = loss_terms(network, x, labels, transforms, Explanation())
    assert torch.equal(network.seen, x)
    assert (terms.consistency, terms.sparsity) == (None, None)
    assert_close(terms.total(3.0, 5.0), functional.cross_entropy(network(x), labels), rtol=0, atol=1e-12)


def test_without_alpha_sparsity_needs_no_second_view(network, batch):
    terms = loss_terms(network, *batch, Explanation(beta=1.0))
    assert torch.equal(network.seen, batch[0])
    assert terms.consistency is None
    assert terms.sparsity.shape == (4,)


def test_without_beta_there_is_no_sparsity(network, batch):
    assert loss_terms(network, *batch, Explanation(alpha=1.0)).sparsity is None


def test_the_total_is_equation_four(network, batch):
    terms = loss_terms(network, *batch, BOTH_TERMS)
    expected = (terms.cross_entropy + 3 * terms.consistency + 5 * terms.sparsity).mean()
    assert_close(terms.total(3.0, 5.0), expected)


def test_both_views_share_batch_statistics(network, batch):
    x, labels, transforms = batch
    terms = loss_terms(network, x, labels, transforms, Explanation(alpha=1.0))
    together = network(torch.cat([x, apply_transforms(transforms, x, 32)]))[:4]
    alone = network(x)
    assert_close(terms.cross_entropy, functional.cross_entropy(together, labels, reduction="none"))
    assert not torch.allclose(terms.cross_entropy, functional.cross_entropy(alone, labels, reduction="none"))


def test_cross_entropy_on_both_views_is_their_mean(network, batch):
    x, labels, transforms = batch
    terms = loss_terms(network, x, labels, transforms, Explanation(ce_on_views="both"))
    views = network(torch.cat([x, apply_transforms(transforms, x, 32)]))
    both = functional.cross_entropy(views, labels.repeat(2), reduction="none").view(2, 4)
    assert_close(terms.cross_entropy, both.mean(0))


def test_views_that_are_equal_have_no_consistency_loss(network, batch):
    x, labels, _ = batch
    still = Transforms.identity(4)
    terms = loss_terms(network, x, labels, still, BOTH_TERMS)
    assert_close(terms.consistency, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_class_of_the_second_view_is_the_firsts_or_its_own(network, batch):
    x, labels, transforms = batch
    predicted = network(torch.cat([x, apply_transforms(transforms, x, 32)])).argmax(1)
    same = predicted[:4] == predicted[4:]
    first, own = (
        loss_terms(network, x, labels, transforms, Explanation(alpha=1.0, cam_class=choice)).consistency
        for choice in ("first-view", "own")
    )
    assert 0 < same.sum() < 4
    assert_close(first[same], own[same])
    assert not torch.isclose(first[~same], own[~same]).any()


@pytest.mark.parametrize(("detach", "ce_on_views"), [("head", "first"), ("head", "both"), ("second-view", "both")])
def test_detach_changes_no_value_of_views_that_go_together(network, batch, detach, ce_on_views):
    together, detached = (
        loss_terms(network, *batch, BOTH_TERMS.model_copy(update={"detach": choice, "ce_on_views": ce_on_views}))
        for choice in ("none", detach)
    )
    # What is not learned from comes to its pixels another way, in other last bits.
    assert_close(together.total(1.0, 0.1), detached.total(1.0, 0.1), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("detach", "moves_head"), [("none", True), ("head", False)])
def test_detached_head_is_not_moved_by_the_maps(network, batch, detach, moves_head):
    terms = loss_terms(network, *batch, BOTH_TERMS.model_copy(update={"detach": detach}))
    found = gradients(network, terms.consistency.sum() + terms.sparsity.sum())
    assert bool(found["fc.weight"].any()) == moves_head
    assert found["stages.0.0.weight"].any()
    assert gradients(network, terms.cross_entropy.sum())["fc.weight"].any()


@pytest.mark.parametrize(("detach", "reaches_second"), [("none", True), ("second-view", False)])
def test_detached_second_view_is_not_moved_by_the_maps(network, batch, detach, reaches_second):
    explanation = BOTH_TERMS.model_copy(update={"detach": detach, "ce_on_views": "both"})
    loss_terms(network, *batch, explanation).consistency.sum().backward()
    assert network.given.grad[:4].any()
    assert bool(network.given.grad[4:].any()) == reaches_second


def test_a_target_is_compared_as_a_constant(network, batch):
    x, _, transforms = batch
    terms = loss_terms(network, *batch, BOTH_TERMS.model_copy(update={"detach": "second-view"}))
    # The last forward pass was the target's alone.
    assert_close(network.seen, apply_transforms(transforms, x, 32), rtol=0, atol=0)
    assert not network.given.requires_grad
    assert gradients(network, terms.consistency.sum())["stages.0.0.weight"].any()


@pytest.mark.parametrize("explanation", [BOTH_TERMS, Explanation(ce_on_views="both")])
def test_photometry_changes_what_is_seen_of_the_second_view(network, batch, explanation):
    x, _, transforms = batch
    photometry = draw_photometry(4, strength=0.5, generator=torch.Generator().manual_seed(0))
    loss_terms(network, *batch, explanation, None, photometry)
    moved = apply_transforms(transforms, x, 32)
    assert_close(network.seen, torch.cat([x, recoloured(moved, photometry)]), rtol=0, atol=0)
    assert not torch.allclose(network.seen[4:], moved)


def test_photometry_leaves_heatmaps_where_they_are(network, batch):
    """Of what changes no colour, the terms are those of the transform alone."""
    x, labels, transforms = batch
    # As colours, none of them beyond [0, 1].
    x = recoloured(x, Photometry.identity(4))
    plain, still = (
        loss_terms(network, x, labels, transforms, BOTH_TERMS, None, photometry)
        for photometry in (None, Photometry.identity(4))
    )
    assert_close(vars(still), vars(plain), rtol=0, atol=1e-5)


@pytest.mark.parametrize("explanation", [Explanation(), Explanation(beta=1.0)])
def test_photometry_does_nothing_where_there_is_no_second_view(network, batch, explanation):
    photometry = draw_photometry(4, strength=0.5, generator=torch.Generator().manual_seed(0))
    loss_terms(network, *batch, explanation, None, photometry)
    assert torch.equal(network.seen, batch[0])


def test_counting_pixels_has_no_gradient(network, batch):
    terms = loss_terms(network, *batch, Explanation(beta=1.0, p=0.0, sparsity="paper"))
    assert (terms.sparsity > 0).all()
    plain = gradients(network, terms.cross_entropy.mean())
    assert_close(gradients(network, terms.total(0.0, 1.0)), plain, rtol=0, atol=0)


@pytest.mark.parametrize("most_cells", [12, 0], ids=["raw maps", "pixels"])
@pytest.mark.parametrize(
    "explanation",
    [
        BOTH_TERMS,
        BOTH_TERMS.model_copy(update={"sparsity": "paper", "p": 2.0}),
        BOTH_TERMS.model_copy(update={"compared_at": "half"}),
        Explanation(alpha=2.0, beta=0.5, p=2.0, distance="correlation"),
        Explanation(beta=0.5),
    ],
    ids=["SSIM", "paper", "half", "correlation", "sparsity alone"],
)
def test_gradients_are_finite_differences(network, batch, explanation, most_cells, monkeypatch):
    monkeypatch.setattr(resampling, "_MOST_CELLS", most_cells)
    monkeypatch.setattr(resampling, "_LEAST_PIXELS_A_CELL", 0)
    loss = loss_terms(network, *batch, explanation).total(explanation.alpha, explanation.beta)
    found = gradients(network, loss)
    step, parameters = 1e-6, dict(network.model.named_parameters())
    for name in ("stages.0.0.weight", "stages.1.1.bias", "stages.3.0.weight", "fc.weight"):
        direction = found[name] / found[name].norm()
        sides = []
        for sign in (1, -2):
            with torch.no_grad():
                parameters[name] += sign * step * direction
                sides.append(loss_terms(network, *batch, explanation).total(explanation.alpha, explanation.beta))
        with torch.no_grad():
            parameters[name] += step * direction
        # The normalisation's eps, a thousandth of the map's spread, is a constant to the gradient.
        assert_close((sides[0] - sides[1]) / (2 * step), found[name].norm(), rtol=2e-3, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_maps_are_compared_at_half_the_images_side_where_asked(network, batch, beta):
    x, labels, transforms = batch
    explanation = Explanation(alpha=1.0, beta=beta, compared_at="half", distance="ssim")
    terms = loss_terms(network, x, labels, transforms, explanation)
    features = network.features(torch.cat([x, apply_transforms(transforms, x, 32)]))
    predicted = network.head(features.mean((2, 3)))[:4].argmax(1).repeat(2)
    maps = functional.interpolate(gradcam(features, network.head, predicted)[:, None], (16, 16), mode="bilinear")[:, 0]
    moved, of_moved = normalise(move_heatmaps(transforms, maps[:4], 16)), normalise(maps[4:])
    assert_close(terms.consistency, consistency_loss(moved, of_moved), rtol=1e-6, atol=1e-8)
    whole = loss_terms(network, x, labels, transforms, BOTH_TERMS)
    assert not torch.allclose(terms.consistency, whole.consistency)
    if beta:
        assert_close(terms.sparsity, whole.sparsity)


def test_how_much_is_lit_is_of_the_whole_heatmap_wherever_maps_are_compared(batch):
    maps = torch.randn(8, 7, 7, generator=torch.Generator().manual_seed(0))
    assert matrices_for(Explanation(alpha=1.0, compared_at="half"), batch[2], 7, 224) is not None
    alone, half = (
        terms_of_maps(maps, batch[2], 224, Explanation(alpha=alpha, beta=1.0, compared_at=place))[1]
        for alpha, place in ((0.0, "full"), (1.0, "half"))
    )
    assert_close(half, alone)


def make_plan(*, epoch: int = 1, seed: int = 0, explanation: Explanation | None = None, **recipe) -> EpochPlan:
    chosen = Recipe(**({"batch_size": 16, "lr": 0.01, "image_size": 32} | recipe))
    return EpochPlan(recipe=chosen, explanation=explanation or BOTH_TERMS, epoch=epoch, seed=seed, device=CPU)


def test_alpha_and_beta_rise_to_their_full_weight():
    explanation = Explanation(warmup_epochs=3)
    factors = [make_plan(epoch=epoch, explanation=explanation).warmup for epoch in (1, 2, 3, 4, 5)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert make_plan(epoch=1).warmup == 1.0


def test_the_learning_rate_falls_to_a_tenth_every_thirty_epochs():
    rates = [make_plan(epoch=epoch, lr=1e-3).lr for epoch in (1, 30, 31, 60, 61)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])


def make_small(seed: int = 0):
    return build_network("convnet_small", num_classes=8, weights="none", seed=seed)


def run_epoch(network, images, plan, *, momentum: float = 0.0, on_step=None):
    optimizer = torch.optim.SGD(network.parameters(), lr=99.0, momentum=momentum)
    return train_epoch(network, images, optimizer, plan, on_step=on_step)


def test_an_epoch_shows_every_image_once_and_tells_how_far_it_is(shapes):
    steps = []
    run_epoch(make_small(), shapes.train, make_plan(), on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(16, 64), (32, 64), (48, 64), (64, 64)]


class Listed(Watched):
    """Keeps all that it was shown in training."""

    def __init__(self, model) -> None:
        super().__init__(model)
        self.shown = []

    def features(self, images):
        self.shown.append(images)
        return super().features(images)


def shown_in_epoch(images, plan) -> torch.Tensor:
    network = Listed(make_small().model)
    run_epoch(network, images, plan)
    return torch.cat(network.shown)


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(shapes):
    # Whole or flipped, an image keeps its mean.
    means = prepare(shapes.train.pixels(torch.arange(64)), CPU).mean((1, 2, 3))
    plans = [make_plan(epoch=epoch, explanation=Explanation(), crop_scale_min=1.0) for epoch in (1, 2)]
    first, second = (shown_in_epoch(shapes.train, plan).mean((1, 2, 3)) for plan in plans)
    assert_close(first.sort().values, means.sort().values, rtol=0, atol=1e-5)
    assert_close(second.sort().values, means.sort().values, rtol=0, atol=1e-5)
    assert not torch.allclose(first, means)
    assert not torch.allclose(first, second)


def are_whole_or_flipped(images, others) -> bool:
    same, flipped = ((images - other).abs().amax((1, 2, 3)) < 1e-4 for other in (others, others.flip(3)))
    return bool((same | flipped).all())


@pytest.mark.parametrize(("scale_min", "is_whole"), [(1.0, True), (0.08, False)])
def test_the_transforms_smallest_crop_is_the_explanations(shapes, scale_min, is_whole):
    explanation = Explanation(alpha=1.0, transform_scale_min=scale_min)
    first, second = shown_in_epoch(shapes.train, make_plan(explanation=explanation, batch_size=64)).chunk(2)
    assert are_whole_or_flipped(first, second) == is_whole


@pytest.mark.parametrize(("scale_min", "is_whole"), [(1.0, True), (0.08, False)])
def test_the_smallest_crop_of_an_image_is_the_recipes(shapes, scale_min, is_whole):
    plan = make_plan(explanation=Explanation(), crop_scale_min=scale_min)
    shown = shown_in_epoch(shapes.train, plan)
    order = torch.randperm(len(shown), generator=plan.generator("order"))
    assert are_whole_or_flipped(shown, prepare(shapes.train.pixels(order), CPU)) == is_whole


@pytest.mark.parametrize(
    ("count", "batch_size", "steps"), [(5, 2, [(2, 5), (4, 5)]), (6, 4, [(4, 6), (6, 6)]), (1, 4, [(1, 1)])]
)
def test_a_last_batch_of_one_sits_the_epoch_out(shapes, count, batch_size, steps):
    seen = []
    images = shapes.train.subset(torch.arange(count))
    plan = make_plan(batch_size=batch_size)
    stats = run_epoch(make_small(), images, plan, on_step=lambda done, total: seen.append((done, total)))
    assert seen == steps
    assert stats.finite


def test_the_loss_of_an_epoch_is_the_sum_of_its_parts(shapes):
    explanation = Explanation(alpha=2.0, beta=0.5, warmup_epochs=1)
    stats = run_epoch(make_small(), shapes.train, make_plan(explanation=explanation))
    expected = stats.cross_entropy + 2.0 / 2 * stats.consistency_loss + 0.5 / 2 * stats.sparsity_loss
    assert stats.loss == pytest.approx(expected, rel=1e-5)


def test_the_epochs_learning_rate_is_the_optimizers(shapes):
    network = make_small()
    optimizer = torch.optim.SGD(network.parameters(), lr=99.0)
    train_epoch(network, shapes.train, optimizer, make_plan(epoch=31, lr=0.01))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


def test_training_lowers_the_loss(shapes):
    network = make_small()
    losses = [run_epoch(network, shapes.train, make_plan(epoch=epoch), momentum=0.9).loss for epoch in range(1, 7)]
    assert losses[-1] < losses[0]


def states_after(shapes, plans) -> list[dict[str, torch.Tensor]]:
    found = []
    for plan in plans:
        network = make_small()
        run_epoch(network, shapes.train, plan)
        found.append(network.state_dict())
    return found


def test_equal_plans_train_alike_bit_for_bit(shapes):
    first, second = states_after(shapes, [make_plan(), make_plan()])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_or_epoch_trains_otherwise(shapes):
    states = states_after(shapes, [make_plan(), make_plan(seed=1), make_plan(epoch=2)])
    for one, other in itertools.combinations(states, 2):
        assert not torch.equal(one["model.fc.weight"], other["model.fc.weight"])


def test_stochastic_depth_draws_from_the_seed_and_leaves_the_global_generator_alone(shapes):
    images, weights = shapes.train.subset(torch.arange(4)), []
    for global_seed in (0, 1):
        network = build_network("convnext_tiny", num_classes=8, weights="none", seed=0)
        torch.manual_seed(global_seed)
        expected = torch.get_rng_state()
        run_epoch(network, images, make_plan(explanation=Explanation(), batch_size=4))
        assert torch.equal(torch.get_rng_state(), expected)
        weights.append(network.model.features[0][0].weight)
    assert torch.equal(*weights)


def test_a_loss_that_is_not_finite_ends_the_epoch_before_its_step(shapes):
    network, steps = make_small(), []
    with torch.no_grad():
        network.model.fc.bias[0] = torch.nan
    before = [parameter.clone() for parameter in network.parameters()]
    stats = run_epoch(network, shapes.train, make_plan(), on_step=lambda *step: steps.append(step))
    assert (stats.finite, steps) == (False, [])
    assert torch.tensor([stats.loss, stats.cross_entropy]).isnan().all()
    assert_close(list(network.parameters()), before, rtol=0, atol=0, equal_nan=True)


def test_weights_stay_as_they_were_when_the_loss_stopped_being_finite(shapes):
    network, kept = make_small(), []
    plan = make_plan(lr=1e30)
    stats = run_epoch(network, shapes.train, plan, on_step=lambda *_: kept.append(network.model.fc.weight.clone()))
    assert not stats.finite
    assert len(kept) == 1
    assert torch.equal(network.model.fc.weight, kept[0])


def test_a_last_step_that_overflows_is_noticed(shapes):
    plan = make_plan(batch_size=64, lr=3e38, explanation=Explanation(alpha=1e6))
    stats = run_epoch(make_small(), shapes.train, plan)
    assert not stats.finite
    assert stats.cross_entropy < 10


def test_images_are_normalised_as_torchvision_does(shapes):
    pixels = shapes.train.pixels(torch.arange(3))
    scaled = torchvision_functional.to_dtype(pixels, torch.float32, scale=True)
    expected = torchvision_functional.normalize(scaled, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert_close(prepare(pixels, CPU), expected)
