"""Modules that look at a whole batch. With processes: tests/test_assistants.py."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import StochasticDepth

from gcc_search.training.crew import Share
from gcc_search.training.learner import WholeBatch, WholeStochasticDepth


@pytest.mark.parametrize("num_views", [1, 2])
def test_stochastic_depth_leaves_out_the_images_that_one_process_would(num_views):
    count, size = 10, 3
    views = torch.ones(num_views, count, 4, 2, 2)
    like = StochasticDepth(0.5, mode="row")
    torch.manual_seed(0)
    expected = like(views.flatten(0, 1)).unflatten(0, (num_views, count))
    assert 0 < int((expected == 0).sum()) < expected.numel()
    for rank in range(size):
        batch = WholeBatch(Share(rank=rank, size=size))
        batch.count = count
        torch.manual_seed(0)
        mine = WholeStochasticDepth(like, batch)(views[:, batch.rows].flatten(0, 1))
        assert_close(mine.unflatten(0, (num_views, -1)), expected[:, batch.rows], rtol=0, atol=0)
