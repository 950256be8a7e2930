"""`gcc-search recommend --export`: a trained network and its card, and both read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from gcc_search.analysis.recommendation import Wish, recommend
from gcc_search.analysis.recommendation_text import say_why
from gcc_search.errors import ResultsError, WeightsError
from gcc_search.exporting import check_target, export_recommended
from gcc_search.model_card import model_card
from gcc_search.model_file import read_model
from gcc_search.results.reader import read_run
from gcc_search.results.writer import write_trial
from gcc_search.trained import open_trained
from gcc_search.training.networks import SmallConvNet

WISH = Wish(max_accuracy_drop=100)


@pytest.fixture(scope="module")
def found(tiny_run):
    return recommend(read_run(tiny_run), WISH)


@pytest.fixture(scope="module")
def exported(found, tmp_path_factory):
    """(model, card)."""
    return export_recommended(found, WISH, tmp_path_factory.mktemp("models") / "model.safetensors")


def weights_of(trained) -> dict[str, torch.Tensor]:
    return trained.network.model.state_dict()


def test_the_export_opens_as_the_trial_does(found, exported):
    model, trial = open_trained(exported[0]), open_trained(found.trial.folder)
    assert (model.name, model.classes, model.fingerprint) == (trial.name, trial.classes, trial.fingerprint)
    assert model.settings.recipe == trial.settings.recipe
    assert not model.network.training
    assert all(torch.equal(value, weights_of(trial)[name]) for name, value in weights_of(model).items())


def test_the_plain_network_takes_the_weights_as_they_are(exported):
    SmallConvNet(8).load_state_dict(load_file(exported[0]))


def test_the_card_has_a_head_that_model_hubs_read(found, exported):
    _, head, _ = exported[1].read_text().split("---\n", 2)
    told = yaml.safe_load(head)
    (result,) = told["model-index"][0]["results"]
    assert told["metrics"] == ["accuracy"]
    assert result["dataset"]["name"] == "shapes"
    assert result["metrics"][0]["value"] == pytest.approx(found.trial.record.test["accuracy_points"] / 100, abs=1e-4)


def test_the_card_tells_data_settings_measures_and_limits(found, exported):
    card = exported[1].read_text()
    images = read_run(found.trial.folder.parent.parent).record.data[0]
    assert f"{images['images']['train']} images to train" in card
    assert images["fingerprint"] in card
    assert ", ".join(images["classes"]) in card
    assert f"| explanation.alpha | {json.dumps(found.trial.record.settings['explanation']['alpha'])} |" in card
    assert "| C* ↑ |" in card
    assert "SmallConvNet(8)" in card
    assert "nor\n  that it lies on the object" in card


@pytest.mark.parametrize(
    ("repeated", "told"),
    [
        (["b/1.jpg: equal to a/1.jpg", "b/2.jpg: equal to a/2.jpg"], "**2 of the scored files are equal to one in"),
        ([], "; no file is in two of them, nor an equal one. Fingerprint"),
        (None, "; no file is in two of them. Fingerprint"),
    ],
)
def test_the_card_tells_of_files_that_are_in_two_splits(exported, found, repeated, told):
    images = dict(read_run(found.trial.folder.parent.parent).record.data[0]) | {"repeated": repeated}
    assert told in model_card(found, say_why(found, WISH), read_model(exported[0])[0], images, file="model.safetensors")


@pytest.mark.parametrize(("size", "expected"), [(224, False), (96, True)])
def test_the_card_tells_how_torchvision_takes_a_transformer_of_other_images(exported, found, size, expected):
    facts = replace(read_model(exported[0])[0], network="vit_b_16", image_size=size)
    images = read_run(found.trial.folder.parent.parent).record.data[0]
    card = model_card(found, say_why(found, WISH), facts, images, file="model.safetensors")
    resized = 'interpolate_embeddings(96, 16, load_file("model.safetensors"))'
    assert (f"network.load_state_dict(torchvision.models.vision_transformer.{resized})" in card) == expected
    assert ("network = torchvision.models.vit_b_16(num_classes=8, image_size=96)" in card) == expected
    assert ('network.load_state_dict(load_file("model.safetensors"))' in card) != expected


def test_paths_of_this_machine_stay_here(exported, tmp_path_factory):
    base = str(tmp_path_factory.getbasetemp()).encode()
    assert base not in exported[0].read_bytes()
    assert base not in exported[1].read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "model.md"])
def test_a_file_in_the_way_is_kept_unless_forced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ResultsError, match=rf"{name}: must be a new name, .*; choose another, or add --force"):
        check_target(tmp_path / "model.safetensors", force=False)
    check_target(tmp_path / "model.safetensors", force=True)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"--export: must end in \.safetensors, got .*model\.pth"):
        check_target(tmp_path / "model.pth", force=False)


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_computed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"--export: .*must lie in a folder that can be written to, got .*file"):
        check_target(tmp_path / "file/model.safetensors", force=False)


def test_a_bucket_is_no_place_for_an_export():
    with pytest.raises(ResultsError, match="--export: must be a path on this machine, got s3://bucket/m"):
        check_target(Path("s3://bucket/m.safetensors"), force=True)


def test_a_trial_without_its_network_is_one_line(found, tmp_path):
    (tmp_path / "trial.json").write_bytes((found.trial.folder / "trial.json").read_bytes())
    with pytest.raises(ResultsError, match=r"must exist, got nothing: the trial is finished; it was removed, or not"):
        open_trained(tmp_path)
    write_trial(tmp_path, replace(found.trial.record, status="diverged", network_sha256=None))
    with pytest.raises(ResultsError, match=r"the trial is diverged; only those leave it that end with a network"):
        open_trained(tmp_path)


@pytest.mark.parametrize("kept", [0, 1000, -4])
def test_a_torn_network_is_one_line(found, tmp_path, kept):
    (tmp_path / "trial.json").write_bytes((found.trial.folder / "trial.json").read_bytes())
    content = (found.trial.folder / "network.safetensors").read_bytes()
    (tmp_path / "network.safetensors").write_bytes(content[:kept])
    with pytest.raises(WeightsError, match=r"network\.safetensors: must be as it was written, got other bytes"):
        open_trained(tmp_path)
