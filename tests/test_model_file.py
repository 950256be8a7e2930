"""An exported network: what is read is what was written, or it is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gcc_search.errors import WeightsError
from gcc_search.model_file import ModelFacts, _digest, read_model, write_model

FACTS = ModelFacts(
    network="resnet18",
    classes=("ant", "water lily"),
    image_size=224,
    crop=0.875,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    trial="run/resnet18-0001",
    settings={"seed": 0, "data": {"name": "caltech101"}},
    data_fingerprint="0123",
    versions={"torch": "2.15.0"},
)
WEIGHTS = {"fc.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(7)}


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "model.safetensors", WEIGHTS, FACTS)
    return tmp_path / "model.safetensors"


def complaint(path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_read_is_what_was_written(model):
    facts, tensors = read_model(model)
    assert facts == FACTS
    assert tensors.keys() == WEIGHTS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in WEIGHTS.items())


def test_a_file_of_before_versions_were_in_it_is_read(model):
    with safe_open(model, framework="pt") as file:
        told = {name: value for name, value in file.metadata().items() if name != "gcc_search.versions"}
    del told["gcc_search.sha256"]
    content = {name: value.clone() for name, value in WEIGHTS.items()}
    save_file(content, model, metadata=told | {"gcc_search.sha256": _digest(content, told)})
    assert read_model(model)[0] == replace(FACTS, versions={})


def test_weights_are_float32_and_counters_stay_whole(tmp_path):
    path = tmp_path / "model.safetensors"
    write_model(path, {"a": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)}, FACTS)
    assert {name: value.dtype for name, value in load_file(path).items()} == {"a": torch.float32, "n": torch.int64}


def test_any_safetensors_reader_sees_what_it_is(model):
    with safe_open(model, framework="pt") as file:
        told = file.metadata()
    assert (told["format"], told["gcc_search.schema_version"]) == ("pt", "1")
    assert json.loads(told["gcc_search.classes"]) == ["ant", "water lily"]


def test_a_changed_bit_anywhere_is_refused(model):
    content = model.read_bytes()
    for place in range(0, len(content), 97):
        changed = bytearray(content)
        changed[place] ^= 1
        model.write_bytes(bytes(changed))
        complaint(model)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_torn_file_is_refused(model, kept):
    model.write_bytes(model.read_bytes()[:kept])
    assert complaint(model).startswith(
        f"{model}: must be a trial directory or a whole model that gcc-search exported, got: "
    )


def test_weights_of_another_program_are_refused(tmp_path):
    save_file({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    assert complaint(tmp_path / "other.safetensors").endswith("gcc-search exported, got another's weights")


def test_nothing_there_is_one_line(tmp_path):
    message = "must be a trial directory or a model that gcc-search exported, got nothing there"
    assert complaint(tmp_path / "none") == f"{tmp_path}/none: {message}"
