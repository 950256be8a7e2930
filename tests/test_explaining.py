"""`gcc-search explain`: what is drawn is what was measured, and a figure comes out of it."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from gcc_search.analysis.overlay import heatmap
from gcc_search.errors import DataError, GccSearchError, ResultsError, SpaceError
from gcc_search.explaining import Wanted, explain_networks
from gcc_search.results.reader import read_trial
from gcc_search.results.writer import write_trial


def explained(*places, out, **wanted):
    """(explanations, printed)."""
    console = Console(file=io.StringIO(), width=100)
    explanations = explain_networks(Wanted(places=places, out=out, device="cpu", **wanted), console)
    return explanations, console.file.getvalue()


def complaint(kind: type[GccSearchError], *places, out, **wanted) -> str:
    with pytest.raises(kind) as caught:
        explained(*places, out=out, **wanted)
    assert not out.exists()
    return str(caught.value)


@pytest.fixture(scope="module")
def of_test(tiny_run, tmp_path_factory):
    """(explanations, printed) of three test images, with a method beside ours."""
    out = tmp_path_factory.mktemp("figures") / "explain.png"
    return explained(tiny_run / "trials/t1", out=out, test=3, methods="gradcam++")


def test_the_baseline_comes_before_the_trial(of_test):
    assert {tuple(view.network for view in block.views) for block in of_test[0].blocks} == {("baseline", "t1")}


@pytest.mark.parametrize(("place", "row"), [("baselines/base", 0), ("trials/t1", 1)])
def test_each_similarity_is_the_measured_consistency_of_that_image(tiny_run, of_test, place, row):
    measured = {image["name"]: image for image in read_trial(tiny_run / place).images().to_pylist()}
    for block in of_test[0].blocks:
        view = block.views[row]
        assert view.consistency == pytest.approx(measured[block.name]["consistency"], abs=1e-6)
        assert view.confidence == pytest.approx(measured[block.name]["confidence"], abs=1e-6)


def test_the_images_are_kept_examples_with_the_maps_that_were_kept(tiny_run, of_test):
    kept = {row["name"]: row for row in read_trial(tiny_run / "trials/t1").heatmaps().to_pylist()}
    for block in of_test[0].blocks:
        row = kept[block.name]
        raw = np.array(row["map"]).reshape(row["rows"], -1)
        # Torch divides by the map's range plus a thousandth of its spread.
        np.testing.assert_allclose(block.views[1].heat, heatmap(raw, 32), atol=2e-3)
        assert list(block.crop) == row["crop"]
        assert block.mirrored is row["flipped"]


def test_another_method_explains_the_same_class(tiny_run, of_test):
    explanations = of_test[0]
    assert explanations.methods == ("gradcam++",)
    for block in explanations.blocks:
        for view in block.views:
            (other,) = view.others
            assert other.shape == view.heat.shape
            assert (other.min(), other.max()) == (0, pytest.approx(1, abs=1e-3))


def test_a_second_run_draws_the_same(tiny_run, of_test, tmp_path):
    again, _ = explained(tiny_run / "trials/t1", out=tmp_path / "again.svg", test=3, methods="gradcam++")
    for first, second in zip(of_test[0].blocks, again.blocks, strict=True):
        assert np.array_equal(first.picture, second.picture)
        assert np.array_equal(first.views[1].heat, second.views[1].heat)


def test_any_image_files_are_shown_in_their_order(tiny_run, tmp_path):
    Image.new("L", (50, 30), 90).save(tmp_path / "grey.png")
    Image.new("RGBA", (30, 50), (200, 10, 10, 0)).save(tmp_path / "clear.png")
    files = (tmp_path / "grey.png", tmp_path / "clear.png")
    explanations, printed = explained(tiny_run / "trials/t1", out=tmp_path / "x.pdf", files=files)
    assert [(block.name, block.label) for block in explanations.blocks] == [("grey.png", None), ("clear.png", None)]
    assert explanations.blocks[0].picture.shape == (32, 32, 3)
    assert np.ptp(explanations.blocks[0].picture, axis=2).max() <= 1
    assert printed == f"wrote {tmp_path}/x.pdf\n"
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


def test_an_unreadable_file_is_one_line_before_anything_is_drawn(tiny_run, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    message = complaint(DataError, tiny_run / "trials/t1", out=tmp_path / "x.png", files=(tmp_path / "torn.jpg",))
    assert message.startswith(f"{tmp_path}/torn.jpg: must be an image that can be decoded, got: ")
    message = complaint(DataError, tiny_run / "trials/t1", out=tmp_path / "x.png", files=(tmp_path / "none.jpg",))
    assert message.startswith(f"{tmp_path}/none.jpg: file must be readable, got: No such file")


def test_a_figure_holds_so_many_rows_and_says_so(tiny_run, tmp_path):
    explanations, printed = explained(tiny_run / "trials/t1", out=tmp_path / "x.png", test=16)
    assert len(explanations.blocks) == 12
    assert "showing 12 of 16 images: a figure holds 24 rows, one for each image and network" in printed


def test_a_trial_without_its_baseline_is_shown_alone(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "trials/t1", tmp_path / "run/trials/t1")
    explanations, printed = explained(tmp_path / "run/trials/t1", out=tmp_path / "x.png", test=1)
    assert [view.network for view in explanations.blocks[0].views] == ["t1"]
    assert explanations.blocks[0].views[0].predicted.startswith("class ")
    assert "shown without its baseline" in printed


def test_networks_of_one_name_are_told_apart_by_their_runs(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "other")
    places = (tiny_run / "trials/t1", tmp_path / "other/trials/t1")
    explanations, _ = explained(*places, out=tmp_path / "x.png", test=1)
    names = [view.network for view in explanations.blocks[0].views]
    assert names == ["tiny/base", "tiny/t1", "other/base", "other/t1"]


def test_networks_that_see_different_images_are_not_shown_together(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "trials/t1", tmp_path / "t2")
    record = read_trial(tmp_path / "t2").record
    write_trial(tmp_path / "t2", replace(record, data_fingerprint="other"))
    message = complaint(ResultsError, tiny_run / "trials/t1", tmp_path / "t2", out=tmp_path / "x.png", test=1)
    assert message.startswith(f"{tmp_path}/t2: images must be that of {tiny_run}/")
    assert message.endswith("got other; explain them one by one")


def test_networks_that_see_more_or_less_of_an_image_are_not_shown_together(tiny_run, tmp_path):
    file = tmp_path / "one.png"
    Image.new("RGB", (80, 60), (200, 40, 40)).save(file)
    shutil.copytree(tiny_run / "trials/t1", tmp_path / "t2")
    record = read_trial(tmp_path / "t2").record
    data = record.settings["data"] | {"name": "imagefolder", "root": str(tmp_path)}
    write_trial(tmp_path / "t2", replace(record, settings=record.settings | {"data": data}))
    message = complaint(ResultsError, tiny_run / "trials/t1", tmp_path / "t2", out=tmp_path / "x.png", files=(file,))
    assert message.startswith(f"{tmp_path}/t2: evaluation crop must be that of {tiny_run}/")
    assert message.endswith(", 1.0, got 0.875; explain them one by one")


def test_an_unknown_method_is_one_line_with_the_known_ones(tiny_run, tmp_path):
    message = complaint(SpaceError, tiny_run / "trials/t1", out=tmp_path / "x.png", test=1, methods="layercan")
    assert message.startswith("--methods: must be known, got layercan; did you mean layercam? (known are gradcam, ")


@pytest.mark.parametrize(("wanted", "got"), [({}, "neither"), ({"test": 1, "files": ("a.jpg",)}, "both")])
def test_images_are_either_files_or_test_images(tiny_run, tmp_path, wanted, got):
    message = complaint(SpaceError, tiny_run / "trials/t1", out=tmp_path / "x.png", **wanted)
    assert message == f"explain: must be given either --images FILES or --test N, got {got}"


def test_another_kind_of_figure_is_one_line(tiny_run, tmp_path):
    message = complaint(SpaceError, tiny_run / "trials/t1", out=tmp_path / "x.jpg", test=1)
    assert message.startswith("--out: must end in .png, .svg, .pdf, got ")


def test_a_folder_without_a_network_is_one_line(tmp_path):
    message = complaint(ResultsError, tmp_path, out=tmp_path / "x.png", test=1)
    assert "must be a trial directory (with a trial.json)" in message


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_of_ours_is_known_again_whatever_its_places_are_called(tiny_run, tmp_path, suffix):
    shutil.copytree(tiny_run / "trials/t1", tmp_path / "läufe 網/trials/t1")
    for _ in range(2):
        explained(tmp_path / "läufe 網/trials/t1", out=tmp_path / f"x.{suffix}", test=1)


def test_a_figure_replaces_no_input_and_nothing_but_a_figure_of_ours(tiny_run, tmp_path):
    trial, photo, text = tiny_run / "trials/t1", tmp_path / "photo.png", tmp_path / "text.png"
    Image.new("RGB", (8, 8)).save(photo)
    text.write_text("mine")
    other = tmp_path / "other.png"
    Image.new("RGB", (8, 8)).save(other)
    (tmp_path / "folder.png").mkdir()
    for out, told in (
        (photo, "must be another file than those that are read"),
        (text, "must be a new name or a figure of explain to replace, got another file"),
        (other, "must be a new name or a figure of explain to replace, got another file"),
        (tmp_path / "folder.png", "must be a file, got a folder"),
        (text / "figure.png", "must lie in a folder that can be written to"),
        (Path("s3://bucket/a.png"), "must be a path on this machine, got s3://bucket/a.png"),
    ):
        with pytest.raises(ResultsError, match=told):
            explained(trial, out=out, files=(photo,))
    assert text.read_text() == "mine"
    with Image.open(photo) as kept:
        assert kept.size == (8, 8)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_an_earlier_figure_is_replaced(tiny_run, tmp_path, suffix):
    out = tmp_path / f"explain{suffix}"
    for _ in range(2):
        explained(tiny_run / "trials/t1", out=out, test=1)
