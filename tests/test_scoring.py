"""`gcc-search evaluate`: the trial's own numbers again, and what is said of images that do not fit."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from gcc_search.analysis.recommendation import Wish, recommend
from gcc_search.errors import DataError, GccSearchError, ResultsError, SpaceError, WeightsError
from gcc_search.exporting import export_recommended
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.schema import IMAGES
from gcc_search.results.tables import read_table
from gcc_search.scoring import Asked, _labelled, evaluate
from gcc_search.trained import open_trained
from gcc_search.training.evaluation import summarise


@pytest.fixture(scope="module")
def model(tiny_run, tmp_path_factory):
    wish = Wish()
    folder = tmp_path_factory.mktemp("models")
    return export_recommended(recommend(read_run(tiny_run), wish), wish, folder / "model.safetensors")[0]


def evaluated(place, **asked):
    """(columns, printed)."""
    console = Console(file=io.StringIO(), width=100)
    columns = evaluate(place, Asked(device="cpu", **asked), console)
    return columns, console.file.getvalue()


def complaint(kind: type[GccSearchError], place, **asked) -> str:
    with pytest.raises(kind) as caught:
        evaluated(place, **asked)
    return str(caught.value)


def test_a_trial_scores_what_it_scored(tiny_run):
    columns, _ = evaluated(tiny_run / "trials/t1", insertion_images=2)
    assert summarise(columns) == read_trial(tiny_run / "trials/t1").record.test


def test_an_export_scores_what_its_trial_scored_to_the_last_digit(tiny_run, model, tmp_path):
    evaluated(model, out=tmp_path / "images.parquet", insertion_images=2)
    again = read_table(tmp_path / "images.parquet", IMAGES)
    assert again.to_pylist() == read_trial(tiny_run / "trials/t1").images().to_pylist()


def test_insertion_is_of_all_images_unless_fewer_are_asked_for(model, shapes):
    columns, _ = evaluated(model)
    few, _ = evaluated(model, insertion_images=2)
    assert not bool(columns["iauc"].isnan().any())
    asked = ~few["iauc"].isnan()
    assert int(asked.sum()) == 2
    assert torch.equal(columns["iauc"][asked], few["iauc"][asked])


def test_means_are_printed_with_their_standard_errors(model, shapes):
    columns, printed = evaluated(model, insertion_images=0)
    gini = columns["gini"].numpy()
    error = gini.std(ddof=1) / np.sqrt(len(gini))
    assert f"t1 on the test split of shapes; the images it was searched with: {len(shapes.test)}" in printed
    assert [f"{gini.mean():.3f}", f"{error:.3f}"] == [cell.strip() for cell in _row(printed, "Gini")[1:3]]
    assert "insertion" not in printed


def _row(printed: str, measure: str) -> list[str]:
    return next(line for line in printed.splitlines() if line.startswith(f"| {measure}")).strip("| ").split("|")


def test_the_validation_split_is_another_one(model, shapes):
    columns, _ = evaluated(model, split="validation", insertion_images=0)
    assert columns["label"].tolist() == shapes.validation.labels.tolist()


def test_some_classes_keep_their_numbers(tiny_run, model, shapes):
    columns, printed = evaluated(model, classes=(shapes.classes[5], shapes.classes[2]), insertion_images=0)
    assert set(columns["label"].tolist()) == {2, 5}
    assert "other images than those it was searched with" in printed


def test_without_names_of_its_classes_a_network_is_shown_images_of_as_many(tiny_run, shapes, tmp_path):
    trial = shutil.copytree(tiny_run / "trials/t1", tmp_path / "t1")
    evaluated(trial, insertion_images=0)
    told = complaint(DataError, trial, classes=(shapes.classes[5], shapes.classes[2]), insertion_images=0)
    assert told == f"{trial}: images must be of 8 classes, got 2"


def test_a_class_that_does_not_exist_is_one_line(model):
    assert complaint(DataError, model, classes=("checked", "cat")).startswith("data.classes: names must be classes of")


def test_an_accent_is_the_same_however_it_is_written(model, shapes):
    trained = replace(open_trained(model), classes=("caf\u00e9", "emu"))
    labels = shapes.test.labels % 2
    labelled = _labelled(trained, ("emu", "cafe\u0301"), replace(shapes.test, labels=labels))
    assert labelled.labels.tolist() == (1 - labels).tolist()


def test_images_of_other_classes_are_one_line(model, tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    asked = {"dataset": "imagefolder", "data_root": tmp_path}
    message = complaint(DataError, model, classes=("cat", "dog"), **asked)
    assert "classes of the images must be among those of the network, got 'cat' (2 of 2 unknown)" in message
    message = complaint(DataError, model, **asked)
    assert message.startswith("data.classes: names must be classes of imagefolder, got ")
    assert message.endswith("; the network has more: name those that are in both with --classes")


def test_images_that_are_not_there_are_one_line(model, tmp_path):
    assert "data.root" in complaint(DataError, model, dataset="caltech101", classes=("ant", "crab"))


def test_another_split_is_one_line(model):
    assert complaint(SpaceError, model, split="train") == "--split: must be test or validation, got train"


def test_a_negative_number_of_images_is_one_line(model):
    message = complaint(SpaceError, model, insertion_images=-1)
    assert message == "evaluation.insertion_images: must be at least 0, got -1"


def test_a_folder_that_does_not_exist_is_told_before_the_work(model, tmp_path):
    assert complaint(ResultsError, model, out=tmp_path / "none/x.parquet").startswith("--out: ")


@pytest.mark.parametrize("force", [False, True])
def test_the_model_is_never_replaced_by_its_measures(model, force):
    before = model.read_bytes()
    message = complaint(ResultsError, model, out=model, force=force)
    assert message == f"--out: must end in .parquet, got {model}; as in images.parquet"
    assert model.read_bytes() == before


@pytest.mark.parametrize("out", ["", ".", "space.yaml"])
def test_measures_go_to_a_parquet_file(model, out):
    assert complaint(ResultsError, model, out=Path(out)).startswith("--out: must end in .parquet, got ")


def test_a_bucket_is_no_place_for_measures(model):
    message = complaint(ResultsError, model, out=Path("s3://bucket/x.parquet"))
    rule = "must be a path on this machine, got s3://bucket/x.parquet"
    assert message == f"--out: {rule}; write it here, then copy it there"


def test_a_file_in_the_way_is_told_before_the_work_and_kept(model, tmp_path):
    out = tmp_path / "mine.parquet"
    out.write_text("mine")
    told = "must be a new name or a table that evaluate wrote, got another file; choose another, or add --force"
    assert complaint(ResultsError, model, out=out) == f"--out: {out}: {told}"
    assert out.read_text() == "mine"
    evaluated(model, out=out, force=True, insertion_images=0)
    # Its own is replaced as it is.
    evaluated(model, out=out, insertion_images=0)
    (tmp_path / "folder.parquet").mkdir()
    assert "must be a file, got a folder" in complaint(ResultsError, model, out=tmp_path / "folder.parquet")


def test_a_trial_keeps_its_own_table(tiny_run):
    out = tiny_run / "trials/t1/images.parquet"
    assert "must be no trial's own table" in complaint(ResultsError, tiny_run / "trials/t1", out=out, force=True)


def test_a_file_that_is_no_export_is_one_line(tiny_run):
    message = complaint(WeightsError, tiny_run / "trials/t1/network.safetensors")
    assert message.endswith("must be a model that gcc-search exported, got another's weights")
    assert complaint(WeightsError, tiny_run / "run.json").startswith(
        f"{tiny_run}/run.json: must be a trial directory or a whole model that gcc-search exported"
    )
