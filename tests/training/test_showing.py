"""Batches drawn many at once and made by one graph are those of one batch after the other, made plainly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gcc_search.saliency import resampling
from gcc_search.saliency.geometry import apply_transforms, draw_transforms
from gcc_search.saliency.photometry import draw_photometry
from gcc_search.settings import Explanation, Recipe
from gcc_search.training import loop, showing
from gcc_search.training.crew import Share
from gcc_search.training.learner import Learner, leading
from gcc_search.training.loop import EpochPlan, batches_of
from gcc_search.training.networks import build_network
from gcc_search.training.showing import Drawn, ReplayedShowing, Showing, prepare
from gcc_search.training.terms import loss_terms
from gcc_search.training.whole_batch import WholeBatch

CPU = torch.device("cpu")
SSIM = Explanation(alpha=1.0, beta=0.1)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use: no graph is made")


@pytest.fixture(autouse=True)
def small_maps_have_matrices(monkeypatch):
    # As on a GPU.
    monkeypatch.setattr(resampling, "_LEAST_PIXELS_A_CELL", 0)


def make_plan(*, epoch: int = 1, device: torch.device = CPU, explanation: Explanation = SSIM) -> EpochPlan:
    recipe = Recipe(batch_size=12, image_size=64)
    return EpochPlan(recipe=recipe, explanation=explanation, epoch=epoch, seed=0, device=device)


def make_learner(share: Share | None = None) -> Learner:
    learner = Learner(build_network("convnet_small", num_classes=8, weights="none", seed=0), loss_terms)
    learner._batch = WholeBatch(share or Share())
    return learner


def batches(images, plan, learner=None) -> list[list[torch.Tensor]]:
    """All of an epoch's, which are there together at its end."""
    with batches_of(images, plan, learner or make_learner()) as made:
        return [shown.tensors() for _, shown in made]


def are_equal(some, others) -> bool:
    return all(
        len(one) == len(other) and all(map(torch.equal, one, other)) for one, other in zip(some, others, strict=True)
    )


@pytest.fixture
def photographs(shapes):
    """64 images whose originals are of many sizes, wide ones and high ones: some crops fit at no attempt."""
    heights, widths = (10 + torch.randperm(500, generator=torch.Generator().manual_seed(seed))[:64] for seed in (0, 1))
    return replace(shapes.train, heights=heights, widths=widths)


@pytest.mark.parametrize("together", [1, 24, 30, 2048])
def test_each_image_gets_what_it_gets_where_batches_are_drawn_one_by_one(photographs, together, monkeypatch):
    monkeypatch.setattr(loop, "_DRAWN_TOGETHER", together)
    plan = make_plan()
    augment, transform = plan.generator("augment"), plan.generator("transform")
    found = batches(photographs, plan)
    order = torch.randperm(64, generator=plan.generator("order")).split(12)
    assert len(found) == len(order) == 6
    for batch, (x, labels, boxes, flips, *_) in zip(order, found, strict=True):
        frame = torch.full((len(batch),), 64)
        moved = draw_transforms(frame, frame, scale=(0.08, 1.0), generator=transform)
        crop = draw_transforms(
            photographs.heights[batch], photographs.widths[batch], scale=(0.08, 1.0), generator=augment
        )
        expected = [apply_transforms(crop, prepare(photographs.pixels(batch), CPU), 64), photographs.labels[batch]]
        assert are_equal([[x, labels, boxes, flips]], [[*expected, moved.boxes, moved.flips]])


def test_what_is_shown_depends_on_the_seed_alone(photographs):
    first, again, other = (batches(photographs, replace(make_plan(), seed=seed)) for seed in (0, 0, 1))
    assert are_equal(first, again)
    assert not are_equal(first, other)


def test_processes_have_a_batch_between_them(photographs):
    plan = make_plan(explanation=Explanation(ce_on_views="both", photometric=1.0))
    whole = batches(photographs, plan)
    assert {len(tensors) for tensors in whole} == {5}
    parts = [batches(photographs, plan, make_learner(Share(rank=rank, size=2))) for rank in (0, 1)]
    joined = [[torch.cat(pair) for pair in zip(*both, strict=True)] for both in zip(*parts, strict=True)]
    assert [len(x) for x, *_ in parts[0]] == [6, 6, 6, 6, 6, 2]
    assert are_equal(joined, whole)


@pytest.mark.parametrize("explanation", [SSIM, Explanation(ce_on_views="both")], ids=["SSIM", "two views"])
def test_photometry_is_drawn_beside_all_else_and_changes_no_other_draw(photographs, explanation):
    plain = batches(photographs, make_plan(explanation=explanation))
    recoloured = explanation.model_copy(update={"photometric": 0.5})
    plan = make_plan(explanation=recoloured)
    found = batches(photographs, plan)
    generator = plan.generator("photometric")
    expected = [draw_photometry(len(x), strength=0.5, generator=generator).values for x, *_ in plain]
    assert are_equal([[batch.pop(4)] for batch in found], [[values] for values in expected])
    assert are_equal(found, plain)


@pytest.mark.parametrize("explanation", [Explanation(photometric=0.5), Explanation(beta=1.0, photometric=0.5)])
def test_no_photometry_is_drawn_for_a_second_view_that_nobody_asks_for(photographs, explanation):
    plain = explanation.model_copy(update={"photometric": 0.0})
    found, expected = (batches(photographs, make_plan(explanation=asked)) for asked in (explanation, plain))
    assert are_equal(found, expected)


def draw(seed: int) -> tuple[torch.Tensor, Drawn]:
    generator, frame = torch.Generator().manual_seed(seed), torch.full((4,), 64)
    crop, moved = (draw_transforms(frame, frame, scale=(0.3, 1.0), generator=generator) for _ in range(2))
    pixels = torch.randint(256, (4, 3, 48, 48), dtype=torch.uint8, generator=generator)
    return pixels, Drawn(
        indices=torch.arange(4),
        labels=torch.arange(4) + seed,
        crop=crop,
        moved=moved,
        photometry=draw_photometry(4, strength=0.5, generator=generator),
    )


@pytest.mark.parametrize("explanation", [SSIM, Explanation()], ids=["SSIM", "cross-entropy"])
def test_what_a_graph_has_made_outlives_its_next_replay(monkeypatch, explanation):
    class Overwriting:
        """As a graph: its results lie where they lay before."""

        def __init__(self, work, example, *, written, owners, draws) -> None:
            self._work, self._results = work, work(*example)

        def __call__(self, *tensors):
            return [own.copy_(new) for own, new in zip(self._results, self._work(*tensors), strict=True)]

    monkeypatch.setattr(showing, "Graphed", Overwriting)
    monkeypatch.setattr(showing, "stream_beside", lambda device: None)
    plain = Showing(explanation=explanation, cells=8, size=64)
    replayed = ReplayedShowing(plain, count=4, side=48, device=CPU)
    expected, found = ([make(*draw(seed)).tensors() for seed in range(3)] for make in (plain, replayed))
    assert (len(found[0]) > 5) == (explanation.alpha > 0)
    assert are_equal(found, expected)


def test_who_has_led_a_trial_keeps_none_of_its_graphs():
    network = build_network("convnet_small", num_classes=8, weights="none", seed=0)
    optimizer = torch.optim.SGD(network.parameters())
    with leading(None, network, optimizer, loss_terms) as learner:
        learner.replayed = learner.replayed_showing = "a graph"
    assert (learner.replayed, learner.replayed_showing) == (None, None)


def test_a_cpu_has_no_graph(shapes):
    learner = make_learner()
    batches(shapes.train, make_plan(), learner)
    assert learner.replayed_showing is None


@needs_cuda
@pytest.mark.parametrize(
    "explanation",
    [SSIM, SSIM.model_copy(update={"photometric": 0.5}), Explanation()],
    ids=["SSIM", "photometric", "cross-entropy"],
)
def test_a_graphs_batches_are_those_that_are_made_plainly(photographs, explanation, monkeypatch):
    """Five of 12 by the graph and one of 4 without it, in each of two epochs, all of them kept to the end."""
    learner, found = make_learner(), []
    plans = [make_plan(epoch=epoch, device=torch.device("cuda"), explanation=explanation) for epoch in (1, 2)]
    for plan in plans:
        found += batches(photographs, plan, learner)
    assert learner.replayed_showing.count == 12
    monkeypatch.setattr(loop, "_replayed", lambda *_: None)
    assert are_equal(found, [batch for plan in plans for batch in batches(photographs, plan)])


@needs_cuda
def test_one_whole_batch_is_not_worth_a_graph(shapes):
    learner = make_learner()
    batches(shapes.train.subset(torch.arange(23)), make_plan(device=torch.device("cuda")), learner)
    assert learner.replayed_showing is None
