"""What is measured on a GPU that is only pretended: everything is on it, and nothing is waited for before the end."""

from __future__ import annotations

import pytest
import torch

from gcc_search.saliency.geometry import Transforms, sample_positions
from gcc_search.saliency.losses import is_degenerate
from gcc_search.saliency.scores import choose_partners, insertion_deletion
from gcc_search.training import cose
from gcc_search.training.cose_transforms import TRANSFORMS
from gcc_search.training.map_scores import Replay, map_scores
from gcc_search.training.passes import Passes
from gcc_search.training.terms import casts_kept, shown_dtype
from tests.training.test_pretended_gpu import CUDA, Crossings, pretended

__all__ = ["pretended"]


@pytest.fixture
def transforms(pretended):
    return Transforms(
        boxes=torch.rand(4, 4, dtype=torch.float64, device=CUDA),
        flips=torch.zeros(4, dtype=torch.bool, device=CUDA),
    )


@torch.no_grad()
def explain(network, transforms):
    x = torch.rand(4, 3, 64, 64, device=CUDA)
    with casts_kept(CUDA):
        positions = sample_positions(transforms, 64, 64, 64).float()
        return Passes(network.eval()).explain(x, positions)


@torch.no_grad()
def score(maps, transforms):
    replay = Replay.of(transforms, 8, 64)
    regions = torch.rand(4, 64, 64, device=CUDA)
    partners = choose_partners(torch.arange(4, device=CUDA), is_degenerate(maps))
    return map_scores(maps, maps, maps[partners], replay, regions)


@torch.no_grad()
def play(network):
    def classify(shown):
        assert shown.dtype == shown_dtype(CUDA)
        assert shown.is_contiguous(memory_format=torch.channels_last)
        return Passes(network).classify(shown)

    images, orders = torch.rand(3, 3, 64, 64, device=CUDA), torch.zeros(3, 64 * 64, dtype=torch.long, device=CUDA)
    classes, heatmaps = torch.zeros(3, dtype=torch.long, device=CUDA), torch.rand(3, 64, 64, device=CUDA)
    with casts_kept(CUDA):
        return insertion_deletion(
            classify, images, heatmaps, classes=classes, tie_orders=orders, batch_size=32, dtype=torch.bfloat16
        )


def test_views_are_explained_on_the_device_alone(pretended, transforms):
    explain(pretended, transforms)
    with Crossings() as crossings:
        predicted, _, maps, _, moved_maps, _ = explain(pretended, transforms)
    assert crossings.found == []
    assert {predicted.device, maps.device, moved_maps.device} == {CUDA}


def test_maps_are_scored_on_the_device_alone(transforms):
    maps = torch.rand(4, 8, 8, device=CUDA)
    score(maps, transforms)
    with Crossings() as crossings:
        scores = score(maps, transforms)
    assert crossings.found == []
    assert {values.device for values in scores.values()} == {CUDA}


def test_states_are_made_and_scored_on_the_device_alone(pretended):
    pretended.eval()
    play(pretended)
    with Crossings() as crossings:
        scores = play(pretended)
    assert crossings.found == []
    assert scores.iauc.device == CUDA


@torch.no_grad()
def test_pairs_are_compared_on_the_device_alone(pretended):
    views = [torch.zeros(4, 3, 64, 64, dtype=torch.uint8, device=CUDA) for _ in (None, *TRANSFORMS)]
    amounts = torch.rand(4, len(TRANSFORMS), dtype=torch.float64, device=CUDA)
    networks = (pretended, pretended)
    cose._compare(networks, views, amounts, CUDA)
    with Crossings() as crossings:
        predicted, predicted_then, similarity, is_empty = cose._compare(networks, views, amounts, CUDA)
    assert crossings.found == []
    assert {predicted.device, predicted_then.device, similarity.device, is_empty.device} == {CUDA}
