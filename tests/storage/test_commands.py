"""Commands on runs in a bucket, as a user types them: they fetch what they need, and say what a folder's would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gcc_search.cli import app
from gcc_search.errors import GccSearchError, ResultsError
from tests.storage.s3_server import BUCKET, S3Server

URL = f"s3://{BUCKET}/runs"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_bucket(s3, tiny_search) -> S3Server:
    """A server with the run of a search, as runs/tiny, and a checkpoint that was left behind."""
    copy = s3.root / BUCKET / "runs/tiny"
    shutil.copytree(tiny_search[0].run, copy)
    (copy / "trials/convnet_small-0000/checkpoint").mkdir()
    (copy / "trials/convnet_small-0000/checkpoint/epoch-000001-0123456789abcdef.safetensors").write_bytes(b"weights")
    return s3


def run(*arguments: object) -> str:
    """What the command printed, in this process: it ended well."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def tables(folder: Path) -> dict[str, str]:
    """The tables of an analysis, but for where each trial lies."""
    return {path.name: path.read_text() for path in folder.glob("*.csv")} | {
        path.name: json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"})
        for path in folder.glob("*.json")
    }


def test_analyze_makes_the_same_tables_of_a_bucket_and_fetches_no_network(in_bucket, tiny_search, here):
    printed = run("analyze", f"{URL}/tiny")
    assert "wrote analysis-tiny: report.html" in printed
    fetched = [name.removeprefix(f"/{BUCKET}/runs/tiny/") for name in in_bucket.fetched()]
    assert "run.json" in fetched
    assert {name.rpartition("/")[2] for name in fetched} == {
        "run.json",
        "trial.json",
        "epochs.parquet",
        "images.parquet",
        "heatmaps.parquet",
    }
    assert len(fetched) == len(set(fetched))
    local = tiny_search[0].run
    run("analyze", local, "--out", here / "local")
    expected = {name: text.replace(str(local), f"{URL}/tiny") for name, text in tables(here / "local").items()}
    assert tables(here / "analysis-tiny") == expected
    assert "/tmp/gcc-" not in (here / "analysis-tiny/report.html").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["analysis-tiny", "local"]


def test_a_torn_file_in_a_bucket_is_named_as_it_is_called_there(in_bucket, here):
    (in_bucket.root / BUCKET / "runs/tiny/trials/convnet_small-0001/epochs.parquet").write_bytes(b"PAR1")
    printed = run("analyze", f"{URL}/tiny", "--out", "figures")
    assert f"{URL}/tiny/trials/convnet_small-0001/epochs.parquet: must be whole Parquet" in printed
    assert (here / "figures/report.html").exists()


TRIAL = f"{URL}/tiny/trials/convnet_small-0001"


def fetched_networks(s3: S3Server) -> list[str]:
    """Whose networks were fetched, in order of name."""
    names = (name.removeprefix(f"/{BUCKET}/runs/tiny/") for name in s3.fetched() if name.endswith(".safetensors"))
    return sorted(name.split("/")[0] for name in names)


def test_evaluate_and_explain_take_a_trial_in_a_bucket(in_bucket, tiny_search, here):
    local = tiny_search[0].run / "trials/convnet_small-0001"
    assert run("evaluate", TRIAL).replace(TRIAL, str(local)) == run("evaluate", local)
    assert fetched_networks(in_bucket) == ["trials"]
    in_bucket.requests.clear()
    run("explain", TRIAL, "--test", "2", "--out", "bucket.png")
    assert fetched_networks(in_bucket) == ["baselines", "trials"]
    assert (here / "bucket.png").stat().st_size > 10_000


def test_recommend_fetches_the_one_network_that_it_exports(in_bucket, here):
    printed = run("recommend", f"{URL}/tiny")
    assert printed.startswith(f"use {URL}/tiny/trials/convnet_small-")
    assert fetched_networks(in_bucket) == []
    run("recommend", f"{URL}/tiny", "--export", "model.safetensors")
    assert fetched_networks(in_bucket) == ["trials"]
    assert "test split" in run("evaluate", "model.safetensors")
    assert "/tmp/gcc-" not in (here / "model.md").read_text()


def test_export_fetches_the_networks_of_the_frontier_and_their_baselines(in_bucket, here):
    printed = run("export", f"{URL}/tiny", "--out", "networks")
    members = [path.name for path in (here / "networks").glob("convnet_small-*.safetensors")]
    assert fetched_networks(in_bucket) == ["baselines", *["trials"] * len(members)]
    assert f"wrote networks: {len(members)} of the frontier, 1 that they are compared to" in printed
    assert "test split" in run("evaluate", f"networks/{members[0]}")
    assert all("/tmp/gcc-" not in path.read_text() for path in (here / "networks").glob("*.md"))


def test_an_exported_file_may_lie_in_a_bucket_itself(in_bucket, here):
    run("recommend", f"{URL}/tiny", "--export", "model.safetensors")
    shutil.copy(here / "model.safetensors", in_bucket.root / BUCKET / "model.safetensors")
    url = f"s3://{BUCKET}/model.safetensors"
    assert run("evaluate", url).replace(url, "model.safetensors") == run("evaluate", "model.safetensors")


def test_train_repeats_a_trial_of_a_bucket_into_a_bucket(in_bucket, here):
    printed = run("train", "--like", TRIAL, "--out", f"s3://{BUCKET}/again", "--name", "copy")
    assert f"results: s3://{BUCKET}/again/copy" in printed
    original, copy = (in_bucket.root / BUCKET / run for run in ("runs/tiny", "again/copy"))
    assert (copy / "trials/convnet_small-0001/network.safetensors").read_bytes() == (
        original / "trials/convnet_small-0001/network.safetensors"
    ).read_bytes()
    assert sorted(path.name for path in (copy / "baselines").iterdir()) == sorted(
        path.name for path in (original / "baselines").iterdir()
    )
    assert list(here.iterdir()) == []
    with pytest.raises(ResultsError, match=rf"^s3://{BUCKET}/again/copy: must be a new name, got one that exists"):
        run("train", "--like", TRIAL, "--out", f"s3://{BUCKET}/again", "--name", "copy")


def test_train_takes_no_name_below_which_something_lies(in_bucket, here):
    (in_bucket.root / BUCKET / "runs/tiny/run.json").unlink()
    with pytest.raises(ResultsError, match=rf"^{URL}/tiny: must be a new name, got one that exists"):
        run("train", "--like", TRIAL, "--out", URL, "--name", "tiny")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["analyze", f"{URL}/other"], f"{URL}/other: must be a run directory (with a run.json), got no folder"),
        (["resume", f"{URL}/other"], f"{URL}/other: must be a run directory (with a run.json), got no folder"),
        (["evaluate", f"{URL}/tiny/trials/x"], f"{URL}/tiny/trials/x: must be a trial directory or a model"),
        (["train", "--like", f"{URL}/x"], f"{URL}/x: must be a trial directory (with a trial.json), got no folder"),
        (["analyze", "ftp://x/other"], "ftp://x/other: must be a folder, s3://bucket/prefix or gs://bucket/prefix"),
    ],
)
def test_mistakes_are_one_line_that_names_the_url(in_bucket, here, arguments, told):
    with pytest.raises(GccSearchError) as caught:
        run(*arguments)
    assert str(caught.value).startswith(told)
    assert list(here.iterdir()) == []
