"""`gcc-search evaluate --cose`: what is printed, what is written, and that the two say the same."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from gcc_search.atomic import sha256_of_file
from gcc_search.cli import app
from gcc_search.cose import NAMES
from gcc_search.errors import ResultsError
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import PAIRS
from gcc_search.results.tables import read_table
from gcc_search.results.writer import write_trial
from gcc_search.scoring import Asked, evaluate


@pytest.fixture(scope="module")
def trial(tiny_run):
    return tiny_run / "trials/t1"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("measures") / "t1.parquet"


@pytest.fixture(scope="module")
def printed(trial, out) -> str:
    result = CliRunner().invoke(
        app, ["evaluate", str(trial), "--cose", "--insertion-images", "0", "--device", "cpu", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def pairs(printed, out):
    return read_table(out.with_suffix(".cose.parquet"), PAIRS).to_pandas()


def evaluated(trial, **asked):
    """(columns, printed)."""
    console = Console(file=io.StringIO(), width=100)
    columns = evaluate(trial, Asked(device="cpu", insertion_images=0, **asked), console)
    return columns, console.file.getvalue()


def row_of(printed: str, name: str) -> list[str]:
    _, _, told = printed.partition("similarity of heatmaps")
    found = next(line for line in told.splitlines() if line.strip("| ").startswith(name))
    return [cell.strip() for cell in found.strip("| ").split("|")][1:]


def test_a_row_is_written_for_each_image_and_transform(pairs, trial):
    images = read_trial(trial).images().to_pandas()
    assert len(pairs) == len(images) * len(NAMES)
    assert pairs["transform"].tolist() == list(NAMES) * len(images)
    for column in ("index", "name", "label"):
        assert pairs[column].tolist() == images[column].repeat(len(NAMES)).tolist()
    assert pairs["similarity"].between(-1, 1).all()


def test_amounts_are_missing_where_a_transform_has_none(pairs):
    without = set(pairs["transform"][pairs["amount"].isna()])
    assert without == {"flip left-right", "flip up-down", "auto-contrast", "equalise", "blur", "smooth", NAMES[-1]}
    assert pairs["amount"][pairs["transform"] == "rotate"].abs().between(4.5, 135).all()


def test_what_is_printed_is_the_mean_of_what_is_written(printed, pairs):
    was_right, is_right = pairs["predicted"] == pairs["label"], pairs["predicted_then"] == pairs["label"]
    kept = was_right & is_right & (pairs["transform"] != "random weights")
    weights = np.where(pairs["amount"].isna(), 1, 6)
    consistency = np.average(pairs["similarity"][kept], weights=weights[kept])
    changed = was_right & ~is_right
    sensitivity = np.average(pairs["similarity"][changed], weights=weights[changed])
    told = {name: row_of(printed, name) for name in ("COSE", "consistency", "sensitivity", "rotate")}
    assert told["consistency"][0] == f"{consistency:.3f}"
    assert told["consistency"][2] == str(kept.sum())
    assert told["sensitivity"][0] == f"{sensitivity:.3f}"
    assert told["COSE"][0] == f"{np.sqrt(consistency * (1 - sensitivity)):.3f}"
    rotated = pairs["similarity"][kept & (pairs["transform"] == "rotate")]
    assert told["rotate"][0] == f"{rotated.mean():.3f}"
    assert told["rotate"][1] == f"{rotated.std() / np.sqrt(len(rotated)):.3f}"


def test_every_transform_has_its_line_and_the_key_says_what_is_what(printed):
    for name in NAMES:
        assert len(row_of(printed, name)) == 4
    assert "COSE = sqrt(consistency (1 - sensitivity))" in printed
    assert max(map(len, printed.partition("similarity of")[2].split("wrote ")[0].splitlines())) <= 100


def test_cose_changes_no_other_number_and_is_left_out_unless_asked_for(trial, printed):
    _, without = evaluated(trial)
    assert "COSE" not in without
    for line in without.splitlines():
        assert line in printed


def test_fewer_images_are_some_of_the_same(trial, pairs, tmp_path):
    evaluated(trial, cose_images=5, out=tmp_path / "few.parquet")
    few = read_table(tmp_path / "few.cose.parquet", PAIRS).to_pandas()
    assert len(few) == 5 * len(NAMES)
    both = few.merge(pairs, on=["index", "transform"], suffixes=("", "_all"))
    assert len(both) == len(few)
    assert np.allclose(both["similarity"], both["similarity_all"], rtol=0, atol=1e-5)


def test_a_number_of_images_asks_for_cose_as_well(trial):
    asked = ["evaluate", str(trial), "--cose-images", "4", "--insertion-images", "0", "--device", "cpu"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0
    assert int(row_of(result.output, "rotate")[3]) <= 4


def test_another_file_where_the_pairs_go_is_told_before_the_work_and_kept(trial, tmp_path):
    mine = tmp_path / "x.cose.parquet"
    mine.write_text("mine")
    with pytest.raises(ResultsError) as caught:
        evaluated(trial, cose_images=5, out=tmp_path / "x.parquet")
    told = "must be a new name or a table that evaluate wrote, got another file; choose another, or add --force"
    assert str(caught.value) == f"--out: {mine}: {told}"
    assert mine.read_text() == "mine"
    assert not (tmp_path / "x.parquet").exists()
    # Without COSE nothing is written there.
    evaluated(trial, out=tmp_path / "x.parquet")
    evaluated(trial, cose_images=5, out=tmp_path / "x.parquet", force=True)
    # Its own are replaced as they are.
    evaluated(trial, cose_images=5, out=tmp_path / "x.parquet")


def test_images_without_a_positive_map_are_told(trial, tmp_path, printed):
    empty = tmp_path / "empty"
    shutil.copytree(trial, empty)
    tensors = load_file(empty / "network.safetensors")
    # Features are positive, and all classes are moved alike: predictions stay.
    tensors["fc.weight"] -= 100
    save_file(tensors, empty / "network.safetensors")
    record = read_trial(empty).record
    write_trial(empty, replace(record, network_sha256=sha256_of_file(empty / "network.safetensors")))
    told = evaluated(empty, cose_images=4)[1]
    assert "4 of 4 images have no positive map" in told
    assert "no positive map" not in printed


def test_pairs_of_an_earlier_time_are_told_of(trial, out, printed):
    told = evaluated(trial, out=out)[1]
    assert f"{out.with_suffix('.cose.parquet')} is of an earlier evaluate --cose: left as it is" in told
    assert "is of an earlier" not in printed
