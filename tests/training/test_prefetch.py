"""What is made ahead is what would be made in turn, and nothing of it is left behind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.testing import assert_close

from gcc_search.saliency import resampling
from gcc_search.saliency.geometry import Transforms
from gcc_search.settings import Explanation, Recipe
from gcc_search.training.learner import Learner
from gcc_search.training.loop import EpochPlan, batches_of
from gcc_search.training.map_scores import Replay
from gcc_search.training.networks import build_network
from gcc_search.training.prefetch import prepared, tensors_in
from gcc_search.training.terms import loss_terms

CPU = torch.device("cpu")
RECIPE = Recipe(batch_size=12, image_size=64)
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU that torch can use: nothing is made ahead"
)
EVERYWHERE = pytest.mark.parametrize("ahead", [False, True])


def prefetching_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    assert prefetching_threads() == []


class Maker:
    """Draws a number for each item, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.asked: list[int] = []

    def __call__(self, item: int) -> tuple[int, torch.Tensor]:
        self.asked.append(item)
        return item, torch.rand(2, generator=self.generator)


@EVERYWHERE
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_items_come_in_order_with_the_draws_of_one_after_the_other(ahead, count):
    with prepared(Maker(), range(count), CPU, ahead=ahead) as made:
        found = list(made)
    plain = Maker()
    assert [item for item, _ in found] == list(range(count))
    assert all(torch.equal(draw, plain(item)[1]) for item, draw in found)


def test_a_cpu_makes_each_item_when_it_is_taken():
    make = Maker()
    with prepared(make, range(5), CPU) as made:
        next(made)
        assert make.asked == [0]


def test_ahead_the_next_item_is_made_while_this_one_is_worked_on():
    begun = [threading.Event() for _ in range(4)]

    def make(item: int) -> tuple[int]:
        begun[item].set()
        return (item,)

    with prepared(make, range(4), CPU, ahead=True) as made:
        for (item,) in made:
            if item < 3:
                assert begun[item + 1].wait(10)
            if item < 2:
                assert not begun[item + 2].is_set()


def test_ahead_the_first_item_is_made_before_it_is_asked_for():
    begun = threading.Event()
    with prepared(lambda item: (begun.set(),), range(3), CPU, ahead=True):
        assert begun.wait(10)


@EVERYWHERE
def test_what_making_raises_comes_out_in_its_turn(ahead):
    def make(item: int) -> tuple[int]:
        if item == 2:
            raise OSError("the disk is gone")
        return (item,)

    with prepared(make, range(4), CPU, ahead=ahead) as made:
        assert [next(made), next(made)] == [(0,), (1,)]
        with pytest.raises(OSError, match="the disk is gone"):
            next(made)


@EVERYWHERE
def test_one_who_leaves_early_leaves_no_thread(ahead):
    make = Maker()

    def fail_at_the_first() -> None:
        with prepared(make, range(100), CPU, ahead=ahead) as made:
            raise KeyError(next(made))

    with pytest.raises(KeyError):
        fail_at_the_first()
    assert prefetching_threads() == []
    assert len(make.asked) <= 3


@pytest.mark.parametrize("distance", ["ssim", "correlation"])
def test_all_that_a_step_is_shown_is_kept_until_the_step_has_read_it(shapes, distance, monkeypatch):
    """What is missed here would be written over by the next batch, on a GPU, while it is read."""
    # As on a GPU.
    monkeypatch.setattr(resampling, "_LEAST_PIXELS_A_CELL", 0)
    explanation = Explanation(alpha=1.0, distance=distance, photometric=0.5)
    plan = EpochPlan(recipe=RECIPE, explanation=explanation, epoch=1, seed=0, device=CPU)
    learner = Learner(build_network("convnet_small", num_classes=8, weights="none", seed=0), loss_terms)
    with batches_of(shapes.train, plan, learner) as batches:
        made = next(batches)
    assert made[1].matrices is not None
    assert {id(tensor) for tensor in tensors_in(made)} == {id(tensor) for tensor in made[1].tensors()}


def test_all_that_maps_are_scored_by_is_kept_until_they_are():
    transforms = Transforms(boxes=torch.rand(2, 4, dtype=torch.float64), flips=torch.zeros(2, dtype=torch.bool))
    replay, regions = Replay.of(transforms, 7, 224), torch.ones(2, 224, 224)
    expected = [transforms.boxes, transforms.flips, regions]
    expected += [*replay.windows.tensors(), *replay.correlating.tensors()]
    assert {id(tensor) for tensor in tensors_in((slice(2), replay, regions))} == {id(tensor) for tensor in expected}


@needs_cuda
def test_a_gpu_gets_the_same_values_and_keeps_them_while_it_works_on_them():
    device = torch.device("cuda")
    stored = torch.arange(20 * 2**18).view(20, -1)

    def make(item: int) -> tuple[int, torch.Tensor, Transforms]:
        boxes = torch.full((1, 4), float(item), dtype=torch.float64)
        transforms = Transforms(boxes=boxes, flips=torch.zeros(1, dtype=torch.bool))
        return item, stored[item].pin_memory().to(device, non_blocking=True).double(), transforms.to(device)

    sums = []
    with prepared(make, range(len(stored)), device) as made:
        for _, values, transforms in made:
            # Long enough for the next ones to be made, and to be put where these are if they were free.
            torch.cuda._sleep(20_000_000)
            sums.append(values.sum() + transforms.boxes.sum())
    expected = stored.double().sum(1) + 4 * torch.arange(len(stored))
    assert torch.equal(torch.stack(sums).cpu(), expected)


@needs_cuda
@pytest.mark.parametrize(
    "explanation",
    [
        Explanation(),
        Explanation(alpha=1.0, beta=0.1, photometric=0.5),
        Explanation(alpha=1.0, beta=0.1, distance="correlation"),
    ],
)
def test_a_gpus_batches_are_those_of_a_cpu(shapes, explanation, monkeypatch):
    # Maps this small are compared by their pixels on a CPU.
    monkeypatch.setattr(resampling, "_LEAST_PIXELS_A_CELL", 0)
    found = []
    for device in (CPU, torch.device("cuda")):
        plan = EpochPlan(recipe=RECIPE, explanation=explanation, epoch=1, seed=0, device=device)
        learner = Learner(build_network("convnet_small", num_classes=8, weights="none", seed=0), loss_terms)
        with batches_of(shapes.train, plan, learner) as batches:
            found.append([(count, *(tensor.cpu() for tensor in shown.tensors())) for count, shown in batches])
    assert len(found[0]) == len(found[1]) == 6
    for (count, x, *drawn), (other_count, other_x, *other_drawn) in zip(*found, strict=True):
        assert count == other_count
        assert_close(x, other_x, rtol=0, atol=1e-4)
        for tensor, other in zip(drawn, other_drawn, strict=True):
            assert_close(tensor, other, rtol=1e-5, atol=1e-6)


@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
def test_neither_who_makes_a_batch_nor_who_takes_it_waits_for_the_gpu(shapes):
    device = torch.device("cuda")
    plan = EpochPlan(recipe=RECIPE, explanation=Explanation(alpha=1.0), epoch=1, seed=0, device=device)
    learner = Learner(build_network("convnet_small", num_classes=8, weights="none", seed=0), loss_terms)

    def take_all() -> None:
        with batches_of(shapes.train, plan, learner) as batches:
            for _, shown in batches:
                shown.x.sum()

    take_all()
    try:
        # It is set where this raises as well.
        torch.cuda.set_sync_debug_mode("error")
        take_all()
    finally:
        torch.cuda.set_sync_debug_mode("default")
