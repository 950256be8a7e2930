"""What is compared in a step is the same loss, got in other ways."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from benchmarks import precision
from benchmarks.rivals import WITH_OUR_LOSSES
from benchmarks.step import OURS, _losses, make_batch, saved_bytes
from gcc_search.training.networks import build_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def losses():
    network = build_network("resnet18", num_classes=101, weights="none", seed=0).train()
    return _losses(network, make_batch(network, 2, CPU))


@pytest.mark.parametrize("way", WITH_OUR_LOSSES)
def test_the_ways_of_others_give_our_loss(losses, way):
    assert_close(losses[way](), losses[OURS](), rtol=1e-4, atol=1e-4)


def test_ours_keeps_less_than_they_do(losses):
    kept = {way: saved_bytes(losses[way], []) for way in (OURS, *WITH_OUR_LOSSES)}
    assert all(kept[way] > 1.5 * kept[OURS] for way in WITH_OUR_LOSSES)


def test_a_step_is_carried_out_in_the_ways_that_are_measured():
    network = build_network("resnet18", num_classes=101, weights="none", seed=0).train()
    found = []
    for name in ("float32", "bfloat16"):
        way = next(way for way in precision.ON_CPU if way.name == name)
        with precision._carried_out(way, CPU):
            found.append(float(precision._loss(network, OURS, 2, CPU)().detach()))
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.1)
