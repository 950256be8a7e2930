"""Steps as one CUDA graph against the same steps taken one kernel after another."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.convnext import CNBlock

from gcc_search.saliency import resampling
from gcc_search.saliency.geometry import Transforms
from gcc_search.settings import Explanation, Recipe
from gcc_search.training.graphed import Graphed
from gcc_search.training.learner import Learner
from gcc_search.training.loop import EpochPlan, batches_of, train_epoch
from gcc_search.training.networks import build_network
from gcc_search.training.steps import ReplayedStep, Shown, Steps
from gcc_search.training.terms import loss_terms

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: no step is replayed")
EXPLANATIONS = {
    "both terms": Explanation(alpha=1.0, beta=0.1, warmup_epochs=2),
    "second view detached": Explanation(alpha=1.0, beta=0.1, detach="second-view"),
    "correlation": Explanation(alpha=1.0, beta=0.1, distance="correlation"),
    "projected": Explanation(alpha=1.0, beta=0.1, opposing="projected"),
    "photometric": Explanation(alpha=1.0, beta=0.1, photometric=0.5),
    "two views, photometric": Explanation(ce_on_views="both", photometric=0.5),
    "cross-entropy": Explanation(),
}


def make_plan(epoch: int, explanation: Explanation, device: str = "cuda", **recipe) -> EpochPlan:
    chosen = Recipe(**({"batch_size": 12, "lr": 0.02, "lr_step_epochs": 1, "image_size": 64} | recipe))
    return EpochPlan(recipe=chosen, explanation=explanation, epoch=epoch, seed=0, device=torch.device(device))


def train(shapes, explanation, *, replayed: bool, network: str = "convnet_small", epochs: int = 3, **recipe):
    """The learner and the rows of so many epochs: five batches of 12 and one of 4."""
    trained = build_network(network, num_classes=8, weights="none", seed=0).cuda()
    for module in trained.modules():
        if isinstance(module, CNBlock):
            # Untrained it is 1e-6, and it is all the same which blocks are left out.
            nn.init.constant_(module.layer_scale, 0.5)
    optimizer = torch.optim.SGD(trained.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-4, fused=True)
    learner = Learner(trained, loss_terms)
    learner.is_alone = replayed
    rows = [
        train_epoch(trained, shapes.train, optimizer, make_plan(epoch, explanation, **recipe), learner=learner)
        for epoch in range(1, epochs + 1)
    ]
    assert (learner.replayed is not None) == replayed
    return trained, rows


@needs_cuda
@pytest.mark.parametrize("explanation", EXPLANATIONS.values(), ids=EXPLANATIONS.keys())
def test_replayed_epochs_are_those_of_plain_steps(shapes, explanation):
    (plain, rows), (replayed, others) = (train(shapes, explanation, replayed=way) for way in (False, True))
    for row, other in zip(rows, others, strict=True):
        assert other.finite
        assert (other.consistency_loss is None) == (row.consistency_loss is None)
        assert other.loss == pytest.approx(row.loss, rel=0.02)
    for name, value in plain.state_dict().items():
        error = (replayed.state_dict()[name] - value).double().norm() / value.double().norm()
        assert error < 0.02, name
    assert replayed.model.stages[0][1].num_batches_tracked == 18


@needs_cuda
def test_random_draws_go_on_between_replays(shapes):
    """Stochastic depth: the draws of a step that is replayed are those of the plain one, and repeat."""
    recipe = {"network": "convnext_tiny", "epochs": 1, "lr": 1e-3}
    plain = train(shapes, EXPLANATIONS["both terms"], replayed=False, **recipe)[1]
    replayed, again = (train(shapes, EXPLANATIONS["both terms"], replayed=True, **recipe)[1] for _ in range(2))
    assert replayed[0].cross_entropy == pytest.approx(again[0].cross_entropy, rel=0.01)
    assert replayed[0].cross_entropy == pytest.approx(plain[0].cross_entropy, rel=0.01)


@needs_cuda
def test_a_step_through_a_transformers_last_block_is_replayed(shapes):
    recipe = {"network": "vit_b_16", "epochs": 1, "lr": 1e-3}
    (plain,), (replayed,) = (
        train(shapes, EXPLANATIONS["both terms"], replayed=way, **recipe)[1] for way in (False, True)
    )
    assert replayed.cross_entropy == pytest.approx(plain.cross_entropy, rel=0.02)
    assert replayed.consistency_loss == pytest.approx(plain.consistency_loss, rel=0.05)


@needs_cuda
def test_a_graph_that_draws_nothing_changes_no_draw_of_another():
    """Replayed beside it, before it has come to its draws."""
    device, noise = torch.device("cuda"), torch.zeros(8, device="cuda")

    def draw(unused: torch.Tensor) -> torch.Tensor:
        torch.cuda._sleep(50_000_000)
        return torch.rand(8, device=device)

    drawing = Graphed(draw, [noise], written=(), owners=())
    other, beside = Graphed(torch.neg, [noise], written=(), owners=(), draws=False), torch.cuda.Stream()
    drawn = []
    for is_beside in (False, True):
        torch.manual_seed(0)
        for _ in range(2):
            drawn.append(drawing.replay())
            with torch.cuda.stream(beside):
                if is_beside:
                    other.replay()
            torch.cuda.synchronize()
            drawn[-1] = drawn[-1].clone()
    assert_close(torch.stack(drawn[:2]), torch.stack(drawn[2:]), rtol=0, atol=0)


@needs_cuda
def test_a_replayed_loss_that_is_not_finite_ends_the_epoch(shapes):
    _, rows = train(shapes, EXPLANATIONS["both terms"], replayed=True, epochs=1, lr=1e30)
    assert not rows[0].finite


@needs_cuda
def test_nothing_is_left_of_a_graph_that_was_tried(shapes):
    """Its warm-ups train nothing: weights, statistics and momentum are as they were before."""
    explanation = EXPLANATIONS["cross-entropy"]
    (plain, _), (replayed, _) = (train(shapes, explanation, replayed=way, epochs=1, lr=1e-9) for way in (False, True))
    assert_close(replayed.state_dict(), plain.state_dict(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("explanation", EXPLANATIONS.values(), ids=EXPLANATIONS.keys())
def test_a_batch_is_the_same_after_it_was_a_row_of_tensors(shapes, explanation, monkeypatch):
    """So it goes into a graph: what a step makes of it does not change, whether matrices come with it or not."""
    # As on a GPU.
    monkeypatch.setattr(resampling, "_LEAST_PIXELS_A_CELL", 0)
    network = build_network("convnet_small", num_classes=8, weights="none", seed=0).train()
    learner, plan = Learner(network, loss_terms), make_plan(1, explanation, device="cpu")
    with batches_of(shapes.train, plan, learner) as batches:
        _, given = next(batches)
    assert (given.matrices is None) == (explanation.alpha == 0)
    assert (given.photometry is None) == (explanation.photometric == 0)
    shown = Shown.of_tensors(*given.tensors(), is_photometric=given.photometry is not None)
    with_them, without = (
        learner.terms(*replace(shown, matrices=matrices).given(explanation)) for matrices in (shown.matrices, None)
    )
    assert_close(vars(with_them), vars(without))
    assert_close(vars(with_them), vars(learner.terms(*given.given(explanation))), rtol=0, atol=0)


@pytest.mark.parametrize("explanation", EXPLANATIONS.values(), ids=EXPLANATIONS.keys())
def test_what_goes_into_a_graph_is_the_step_that_is_taken_plainly(shapes, explanation, monkeypatch):
    class Kept:
        def __init__(self, work, example, *, written, owners) -> None:
            self.work, self.example, (*_, self.weights) = work, example, owners

    monkeypatch.setattr("gcc_search.training.steps.Graphed", Kept)
    plan, states = make_plan(1, explanation, device="cpu"), []
    for is_graph in (False, True):
        network = build_network("convnet_small", num_classes=8, weights="none", seed=0).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        learner = Learner(network, loss_terms)
        with batches_of(shapes.train, plan, learner) as batches:
            count, shown = next(batches)
        learner.begin(count)
        if is_graph:
            graph = ReplayedStep(learner, optimizer, explanation, shown).graph
            graph.weights.copy_(torch.tensor([0.5, 0.2, 0.1]))
            sums = graph.work(*graph.example)
        else:
            sums = Steps(learner, optimizer, explanation, alpha=0.5, beta=0.2).take(shown, of=count).values()
        states.append([sums, network.state_dict()])
    assert_close(states[1], states[0], rtol=0, atol=1e-6)


def test_who_lets_go_of_a_learner_lets_go_of_its_graph(monkeypatch):
    """Its memory does not wait for the garbage collector, which may come while another graph is captured."""

    class Kept:
        def __init__(self, work, example, *, written, owners) -> None:
            self.kept = (*example, *written, owners)

    monkeypatch.setattr("gcc_search.training.steps.Graphed", Kept)
    network = build_network("convnet_small", num_classes=8, weights="none", seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    learner, explanation = Learner(network, loss_terms), EXPLANATIONS["both terms"]
    moved = Transforms(boxes=torch.rand(2, 4), flips=torch.zeros(2, dtype=torch.bool))
    x, labels = torch.rand(2, 3, 64, 64), torch.zeros(2, dtype=torch.long)
    shown = Shown(x=x, labels=labels, moved=moved, photometry=None, matrices=None)
    learner.replayed = ReplayedStep(learner, optimizer, explanation, shown)
    left = weakref.ref(learner.replayed)
    gc.disable()
    try:
        del learner
        assert left() is None
    finally:
        gc.enable()


def test_on_the_cpu_no_step_is_replayed(shapes):
    network = build_network("convnet_small", num_classes=8, weights="none", seed=0)
    learner = Learner(network, loss_terms)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, fused=True)
    plan = make_plan(1, EXPLANATIONS["both terms"], device="cpu", image_size=32)
    assert train_epoch(network, shapes.train, optimizer, plan, learner=learner).finite
    assert learner.replayed is None
