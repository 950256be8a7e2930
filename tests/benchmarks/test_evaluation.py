"""The benchmark of the evaluation counts the passes that an evaluation makes."""

from __future__ import annotations

import torch

from benchmarks import evaluation
from benchmarks.evaluation import Size, _pass_forward, measure_evaluation
from gcc_search.training.evaluation import measure
from gcc_search.training.networks import build_network
from gcc_search.training.passes import Passes


def test_every_network_has_a_row_for_each_split_and_method(monkeypatch, capsys):
    small = Size(num_validated=4, num_tested=1, batch_size=4, rounds=1, num_posthoc=2)
    for name, value in {
        "NETWORKS": ("convnet_small",),
        "POSTHOC": ("gradcam",),
        "SIZES": {"cpu": small, "cuda": small},
    }.items():
        monkeypatch.setattr(evaluation, name, value)
    found = measure_evaluation(None)
    assert [(row["split"], row["images"]) for row in found["evaluation"]] == [("validation", 4), ("test", 1)]
    assert all(row["time_ratio"] == row["seconds"] / row["forward_seconds"] for row in found["evaluation"])
    (row,) = found["posthoc"]
    assert row["time_ratio"] == row["seconds"] / min(row["one_by_one_seconds"], row["batched_seconds"])
    assert "validation" in capsys.readouterr().out


def test_the_floor_shows_as_many_images_as_are_measured():
    size = Size(num_validated=5, num_tested=2, batch_size=4, rounds=1, num_posthoc=1)
    network = (
        build_network("convnet_small", num_classes=101, weights="none", seed=0).to(evaluation.best_device()).eval()
    )
    seen = []
    network.model.stages.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    for count, inserted in ((5, 0), (2, 2)):
        images = evaluation.images_to_score(count, None)
        measure(Passes(network), images, evaluation._evaluation(size, seed=0, inserted=inserted))
        measured, seen[:] = sum(seen), []
        _pass_forward(network, size, count=count, inserted=inserted)
        assert sum(seen) == measured == 2 * count + 57 * inserted
        seen.clear()
    assert torch.is_grad_enabled()
