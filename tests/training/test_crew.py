"""Who takes which images of a batch, and how rank 0 leads."""

from __future__ import annotations

import pytest
import torch
from torch.distributed import HashStore

from gcc_search.training import crew as crews
from gcc_search.training.crew import OVER, Crew, Share, joined, listen


@pytest.mark.parametrize(("count", "size"), [(16, 2), (17, 2), (16, 3), (3, 3)])
def test_shares_are_the_batch_in_order(count, size):
    images = list(range(count))
    shares = [images[Share(rank=rank, size=size).rows(count)] for rank in range(size)]
    assert [image for share in shares for image in share] == images
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_of_fewer_images_than_processes_is_not_cut():
    assert [Share(rank=rank, size=3).rows(2) for rank in range(3)] == [slice(0, 2)] * 3


def test_others_hear_what_rank_0_tells_in_its_order():
    store = HashStore()
    leader, other = (Crew(share=Share(rank=rank, size=2), store=store) for rank in range(2))
    for epoch in (1, 2, OVER):
        leader.tell(epoch)
    assert [other.hear() for _ in range(3)] == [1, 2, OVER]


def test_those_who_do_not_come_are_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(crews, "START_SECONDS", 0.2)
    listener, port = listen()
    with (
        pytest.raises(RuntimeError, match=r"must start in 0\.2 s"),
        joined(Share(size=2), port, device=torch.device("cpu"), listener=listener),
    ):
        pass
