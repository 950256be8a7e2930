"""Passes that are replayed against the same passes taken one kernel after another."""

from __future__ import annotations

import gc
import itertools
import weakref
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from gcc_search.settings import Explanation, Recipe
from gcc_search.training import passes as passes_module
from gcc_search.training.evaluation import measure
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.graphed import Graphed
from gcc_search.training.learner import Learner
from gcc_search.training.loop import EpochPlan, train_epoch
from gcc_search.training.networks import build_network
from gcc_search.training.passes import Passes
from gcc_search.training.terms import loss_terms

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: no pass is replayed")
NEVER = 10**9


class Replayed(Graphed):
    """As a graph: it reads the network's weights anew, and its results lie where they lay before."""

    def __init__(self, work, example, *, written, owners, draws, after) -> None:
        self.after, self.owners, self.calls = after, owners, 0
        self.keeps_casts = torch.is_autocast_cache_enabled()
        self._work, self._results = work, work(*example)

    def __call__(self, *tensors):
        self.calls += 1
        return tuple(own.copy_(new) for own, new in zip(self._results, self._work(*tensors), strict=True))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(passes_module, "Graphed", Replayed)
    monkeypatch.setattr(passes_module, "_can_be_replayed", lambda tensor: True)


@pytest.fixture
def network():
    return build_network("convnet_small", num_classes=8, weights="none", seed=0).eval()


def make_evaluation(device: str = "cpu") -> Evaluation:
    """Of 16 images three batches of five and one of one; of three inserted ones many of five and one of one."""
    asked = {"image_size": 32, "crop": 1.0, "seed": 0, "batch_size": 5, "insertion_images": 3}
    return Evaluation(device=torch.device(device), **asked)


def change(network) -> None:
    """In place, as training does."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5).add_(0.01)


@pytest.mark.parametrize("is_replayable", [True, False])
def test_no_pass_becomes_a_graph_where_a_network_cannot_be_in_one(as_on_a_gpu, network, shapes, is_replayable):
    network.is_replayable = is_replayable
    passes = Passes(network, num_plain=0)
    measure(passes, shapes.test, make_evaluation())
    assert bool(passes._graphs) == is_replayable


@pytest.mark.parametrize("num_plain", [0, 1, 5])
def test_measures_are_those_of_plain_passes(as_on_a_gpu, network, shapes, num_plain):
    evaluation, passes, seen = make_evaluation(), Passes(network, num_plain=num_plain), []
    for _ in range(3):
        found = measure(passes, shapes.test, evaluation)
        expected = measure(Passes(network, num_plain=NEVER), shapes.test, evaluation)
        assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        seen.append(found["confidence"])
        change(network)
    assert all((before - after).abs().max() > 1e-3 for before, after in itertools.pairwise(seen))
    assert passes._graphs
    assert all(graph.calls > 0 for graph in passes._graphs.values())


@torch.no_grad()
def test_what_a_pass_gives_outlives_the_next_one(as_on_a_gpu, network):
    passes, shown = Passes(network, num_plain=0), torch.rand(2, 4, 3, 32, 32)
    expected = [network(images) for images in shown]
    assert_close([passes.classify(images) for images in shown], expected)


@torch.no_grad()
def test_passes_of_a_size_become_a_graph_once_they_have_come_so_often(as_on_a_gpu, network):
    passes = Passes(network, num_plain=2)
    for count in (4, 3, 4, 3):
        passes.classify(torch.rand(count, 3, 32, 32))
    assert not passes._graphs
    for _ in range(3):
        passes.classify(torch.rand(4, 3, 32, 32))
    (graph,) = passes._graphs.values()
    assert graph.calls == 3
    assert graph.owners is network
    assert not graph.keeps_casts
    assert torch.is_autocast_cache_enabled()


@torch.no_grad()
def test_graphs_work_in_the_steps_memory_or_in_that_of_the_first(as_on_a_gpu, network):
    step = Replayed(torch.neg, [torch.zeros(1)], written=(), owners=(), draws=False, after=None)
    passes = Passes(network, after=lambda: step, num_plain=0)
    for count in (4, 3, 2):
        passes.classify(torch.rand(count, 3, 32, 32))
    first, *others = passes._graphs.values()
    assert first.after is step
    assert {graph.after for graph in others} == {first}


@torch.no_grad()
def test_who_lets_go_of_passes_lets_go_of_their_graphs(as_on_a_gpu, network):
    """Their memory does not wait for the garbage collector, which may come while another graph is captured."""
    passes = Passes(network, num_plain=0)
    passes.classify(torch.rand(4, 3, 32, 32))
    left = weakref.ref(next(iter(passes._graphs.values())))
    gc.disable()
    try:
        del passes
        assert left() is None
    finally:
        gc.enable()


@torch.no_grad()
def test_on_the_cpu_no_pass_is_replayed(network, monkeypatch):
    monkeypatch.setattr(passes_module, "Graphed", None)
    passes = Passes(network, num_plain=0)
    for _ in range(2):
        passes.classify(torch.rand(4, 3, 32, 32))
    assert not passes._graphs


def train_and_measure(
    shapes, name: str, batch_size: int, *, num_plain: int
) -> tuple[list[float], list[dict], list[dict]]:
    """Losses of three epochs, and after each what passes say that may be replayed, and what plain ones say.

    Once more at the end, in batches of another size, when the step's graph is gone.
    """
    network = build_network(name, num_classes=8, weights="none", seed=0).cuda()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, fused=True)
    learner, evaluation = Learner(network, loss_terms), replace(make_evaluation("cuda"), image_size=64)
    passes = Passes(network, after=lambda: learner.graph, num_plain=num_plain)
    lr = 0.02 if name == "convnet_small" else 1e-3
    recipe, explanation = Recipe(batch_size=batch_size, lr=lr, image_size=64), Explanation(alpha=1.0, beta=0.1)
    losses, found, expected = [], [], []

    def score(batch_size: int) -> None:
        asked = replace(evaluation, batch_size=batch_size)
        found.append(measure(passes, shapes.test, asked))
        expected.append(measure(Passes(network, num_plain=NEVER), shapes.test, asked))

    for epoch in (1, 2, 3):
        plan = EpochPlan(recipe=recipe, explanation=explanation, epoch=epoch, seed=0, device=torch.device("cuda"))
        losses.append(train_epoch(network, shapes.train, optimizer, plan, learner=learner).loss)
        score(5)
    assert learner.graph is not None
    learner.replayed = None
    score(4)
    assert bool(passes._graphs) == (num_plain < NEVER)
    return losses, found, expected


@needs_cuda
@pytest.mark.parametrize(("name", "batch_size"), [("convnet_small", 12), ("convnet_small", 16), ("convnext_tiny", 12)])
def test_replayed_passes_see_the_weights_of_the_day_and_leave_the_step_alone(shapes, name, batch_size):
    """Both work in one memory. Of 64 images by 12 the last four make a plain step; by 16 all steps are replayed."""
    plain_losses, _, _ = train_and_measure(shapes, name, batch_size, num_plain=NEVER)
    losses, found, expected = train_and_measure(shapes, name, batch_size, num_plain=0)
    # Rounding that differs makes three hundredths of the third one.
    assert losses == pytest.approx(plain_losses, rel=0.1)
    for ours, theirs in zip(found, expected, strict=True):
        for column in ("confidence", "consistency", "gini", "iauc", "dauc"):
            assert_close(ours[column], theirs[column], rtol=0.02, atol=0.01, equal_nan=True, msg=column)
    assert (found[0]["confidence"] - found[2]["confidence"]).abs().max() > 0.02


@needs_cuda
def test_a_gpu_measures_what_a_cpu_does(network, shapes):
    """16 of 64 images at a time: what some are scored by is made while others are scored."""
    evaluation = replace(make_evaluation(), batch_size=4, insertion_images=8)
    expected = measure(Passes(network), shapes.train, evaluation)
    found = measure(Passes(network.cuda()), shapes.train, replace(evaluation, device=torch.device("cuda")))
    for name in ("consistency", "chance", "correlation", "gini", "crop_mass", "box_mass", "iauc", "dauc"):
        # bfloat16 moves them by a thousandth.
        assert (found[name] - expected[name]).abs().nanmean() < 0.01, name


@needs_cuda
@torch.no_grad()
def test_a_pass_is_made_in_one_go(network):
    """Nothing of it is a draw or a wait, whatever comes between the capture and the replay."""
    network.cuda()
    x, positions = torch.rand(2, 4, 3, 32, 32, device="cuda"), torch.rand(2, 4, 32, device="cuda") * 2 - 1
    passes, generator_state = Passes(network, num_plain=0), torch.cuda.get_rng_state()
    first, second = (passes.explain(images, positions)[2] for images in x)
    assert (first - second).abs().max() > 0
    assert torch.equal(torch.cuda.get_rng_state(), generator_state)
