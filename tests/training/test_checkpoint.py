"""Checkpoints: two are kept, a torn one is passed over, and training goes on as if nothing had happened."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from gcc_search.errors import ResultsError
from gcc_search.settings import Explanation, Recipe
from gcc_search.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from gcc_search.training.loop import EpochPlan, train_epoch
from gcc_search.training.networks import build_network


def make_pair(seed: int = 0):
    """A small network and its optimizer."""
    network = build_network("convnet_small", num_classes=8, weights="none", seed=seed)
    return network, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)


def train(network, optimizer, images, *, epoch: int) -> None:
    recipe = Recipe(batch_size=16, lr=0.05, image_size=32)
    explanation = Explanation(alpha=1.0, beta=0.1)
    plan = EpochPlan(recipe=recipe, explanation=explanation, epoch=epoch, seed=0, device=torch.device("cpu"))
    train_epoch(network, images, optimizer, plan)


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of epochs 1 to 3 of an untrained network."""
    network, optimizer = make_pair()
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path / "checkpoint", network, optimizer, epoch=epoch)
    return tmp_path / "checkpoint"


def newest(folder):
    return max(folder.iterdir())


def test_the_latest_two_are_kept(folder):
    assert sorted(path.name[:12] for path in folder.iterdir()) == ["epoch-000002", "epoch-000003"]


def test_the_newest_is_loaded(folder):
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.epoch, checkpoint.refused) == (3, ())


@pytest.mark.parametrize("epoch", [9, 10, 99, 100])
def test_the_newest_is_found_whatever_its_digits(tmp_path, epoch):
    network, optimizer = make_pair()
    for number in (epoch - 1, epoch):
        save_checkpoint(tmp_path, network, optimizer, epoch=number)
    assert load_checkpoint(tmp_path).epoch == epoch


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_checkpoint_cut_short_is_passed_over_and_named(folder, share):
    path = newest(folder)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.epoch, checkpoint.refused) == (2, (str(path),))


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_checkpoint_with_one_bit_flipped_is_passed_over_and_named(folder, place):
    path = newest(folder)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.epoch, checkpoint.refused) == (2, (str(path),))


def test_a_checkpoint_that_cannot_be_read_is_passed_over_and_named(folder):
    path = newest(folder)
    path.unlink()
    path.mkdir()
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.epoch, checkpoint.refused) == (2, (str(path),))


def test_there_is_none_where_all_are_torn(folder):
    for path in folder.iterdir():
        path.write_bytes(b"torn")
    assert load_checkpoint(folder) is None


def test_torn_leftovers_do_not_push_out_what_is_saved_after_them(folder):
    for path in folder.iterdir():
        path.write_bytes(b"torn")
    network, optimizer = make_pair()
    for epoch in (1, 2):
        save_checkpoint(folder, network, optimizer, epoch=epoch)
        assert load_checkpoint(folder).epoch == epoch
    assert sorted(path.name[:12] for path in folder.iterdir()) == ["epoch-000001", "epoch-000002"]


def test_there_is_none_where_nothing_was_saved(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


def test_files_of_others_are_left_alone(folder):
    (folder / "epoch-last.safetensors").write_bytes(b"mine")
    (folder / ".epoch-000004.safetensors.tmp").write_bytes(b"half")
    network, optimizer = make_pair()
    save_checkpoint(folder, network, optimizer, epoch=4)
    assert load_checkpoint(folder).epoch == 4
    assert len(list(folder.iterdir())) == 4


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResultsError, match=r"must be writable, got: (Not a directory|File exists); free space"):
        save_checkpoint(tmp_path / "file", *make_pair(), epoch=1)


def test_restored_training_goes_on_bit_for_bit(tmp_path, shapes):
    network, optimizer = make_pair()
    train(network, optimizer, shapes.train, epoch=1)
    save_checkpoint(tmp_path, network, optimizer, epoch=1)
    train(network, optimizer, shapes.train, epoch=2)
    other, other_optimizer = make_pair(seed=1)
    load_checkpoint(tmp_path).restore(other, other_optimizer)
    train(other, other_optimizer, shapes.train, epoch=2)
    for name, values in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], values)


def test_momentum_is_restored_with_its_layout_in_memory(tmp_path, shapes):
    network, optimizer = make_pair()
    train(network, optimizer, shapes.train, epoch=1)
    save_checkpoint(tmp_path, network, optimizer, epoch=1)
    other, other_optimizer = make_pair(seed=1)
    load_checkpoint(tmp_path).restore(other, other_optimizer)
    for one, parameter in zip(network.parameters(), other.parameters(), strict=True):
        momentum = other_optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(momentum, optimizer.state[one]["momentum_buffer"])
        assert momentum.stride() == parameter.stride()


def test_the_trained_network_is_saved_under_torchvisions_names(tmp_path):
    network, _ = make_pair()
    save_weights(tmp_path / "network.safetensors", network)
    loaded = load_file(tmp_path / "network.safetensors")
    assert loaded.keys() == network.model.state_dict().keys()
    assert all(torch.equal(loaded[name], values) for name, values in network.model.state_dict().items())
