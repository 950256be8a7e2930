"""`gcc-search export`: the networks on the frontier are handed back, whole, or nothing is written."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gcc_search.analysis.recommendation import Wish
from gcc_search.errors import ResultsError, WeightsError
from gcc_search.frontier_export import Export, check_folder, plan_export, say_export, write_export
from gcc_search.model_file import read_model
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.writer import write_trial
from gcc_search.trained import open_trained

ALL = Wish()
# By trial: accuracy, C*, Gini on the validation split. `beaten` is beaten by `sparse` in each.
MEASURED = {"t1": (70.0, 0.6, 0.3), "sparse": (75.0, 0.4, 0.7), "beaten": (74.0, 0.3, 0.6), "between": (72.0, 0.5, 0.5)}


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """A search with three trials on its frontier, and one that is not."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_run, folder)
    for name, (accuracy, corrected, gini) in MEASURED.items():
        place = folder / "trials" / name
        if name != "t1":
            shutil.copytree(folder / "trials" / "t1", place)
        record = read_trial(folder / "trials" / "t1").record
        values = {"accuracy_points": accuracy, "corrected_consistency": corrected, "gini": gini}
        sampled = {"alpha": 0.01, "lr": 0.5}
        write_trial(place, replace(record, id=name, sampled=sampled, validation=record.validation | values))
    baseline = read_trial(folder / "baselines" / "base").record
    validation = baseline.validation | {"accuracy_points": 76.0}
    write_trial(folder / "baselines" / "base", replace(baseline, validation=validation))
    return folder


def export(run: Path, out: Path, wish: Wish = ALL, *, force: bool = False) -> Export:
    plan = plan_export(read_run(run), wish, out, force=force)
    write_export(plan, wish, Console(file=io.StringIO()))
    return plan


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_network_of_the_frontier_is_there_with_its_card_its_baseline_and_an_index(run, tmp_path):
    plan = export(run, tmp_path / "out")
    models = [f"{name}.safetensors" for name in ("t1", "between", "sparse")]
    # From left to right on the figure.
    assert list(plan.members) == models
    cards = [model.replace(".safetensors", ".md") for model in models]
    assert names_in(tmp_path / "out") == sorted([*models, *cards, "baseline-base.safetensors", "README.md"])
    assert sorted(plan.paths()) == sorted((tmp_path / "out").iterdir())


def test_each_file_opens_as_what_it_was(run, tmp_path):
    export(run, tmp_path / "out")
    for name, place in (("between", "trials/between"), ("baseline-base", "baselines/base")):
        ours, theirs = open_trained(tmp_path / "out" / f"{name}.safetensors"), open_trained(run / place)
        weights, expected = (trained.network.model.state_dict() for trained in (ours, theirs))
        assert all(weights[key].equal(value) for key, value in expected.items())
        assert ours.classes == theirs.classes
    facts, _ = read_model(tmp_path / "out" / "baseline-base.safetensors")
    assert facts.trial == "tiny/base"


def test_the_index_has_a_line_for_each_with_what_it_was_chosen_by(run, tmp_path):
    index = export(run, tmp_path / "out").index.read_text()
    lines = [line for line in index.splitlines() if line.startswith("| [")]
    assert [line.split("]")[0] for line in lines] == [
        "| [t1.safetensors",
        "| [between.safetensors",
        "| [sparse.safetensors",
        "| [baseline-base.safetensors",
    ]
    test = read_trial(run / "trials" / "sparse").record.test
    told = f"| 0.01 | 0.01 | 1 | 7 | lr 0.5 | 75.0 | 0.400 | 0.700 | {test['accuracy_points']:.1f} |"
    assert told in lines[2]
    assert lines[2].endswith("| [baseline-base.safetensors](baseline-base.safetensors) |")


def test_a_card_says_what_it_was_chosen_for(run, tmp_path):
    card = (export(run, tmp_path / "out").folder / "sparse.md").read_text()
    assert "- on the frontier: none of the 4 that qualify (constraints kept) beats it on the validation split" in card


def test_what_loses_too_much_is_not_handed_back(run, tmp_path):
    plan = export(run, tmp_path / "out", Wish(max_accuracy_drop=4.0))
    assert list(plan.members) == ["between.safetensors", "sparse.safetensors"]
    assert "(constraints kept, at most 4 points lost)" in (tmp_path / "out" / "sparse.md").read_text()
    with pytest.raises(
        ResultsError, match=r"must have a trial that qualifies, got none \(4 losing more than 0.5 points"
    ):
        export(run, tmp_path / "none", Wish(max_accuracy_drop=0.5))
    assert not (tmp_path / "none").exists()


def test_files_in_the_way_are_kept_unless_forced(run, tmp_path):
    (out := tmp_path / "out").mkdir()
    (out / "sparse.md").write_text("mine")
    with pytest.raises(
        ResultsError, match=r"out/sparse\.md: must be a new name, .* choose another --out, or add --force"
    ):
        export(run, out)
    assert (names_in(out), (out / "sparse.md").read_text()) == (["sparse.md"], "mine")
    export(run, out, force=True)
    assert (out / "sparse.md").read_text() != "mine"


@pytest.mark.parametrize("place", ["trials/sparse", "baselines/base"])
def test_where_one_network_is_damaged_nothing_is_written(run, tmp_path, place):
    (run / place / "network.safetensors").write_bytes(b"other bytes")
    with pytest.raises(WeightsError, match=f"{place}/network.safetensors: must be as it was written, got other bytes"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ResultsError, match=r"^--out: .*/out: must be a folder, got a file; name another$"):
        check_folder(tmp_path / "out")


def test_a_folder_in_the_way_is_told_before_anything_is_written_also_by_force(run, tmp_path):
    (tmp_path / "out" / "README.md").mkdir(parents=True)
    with pytest.raises(ResultsError, match=r"out/README\.md: must be a name for a file, got a folder"):
        export(run, tmp_path / "out", force=True)
    assert names_in(tmp_path / "out") == ["README.md"]


def test_an_older_index_is_gone_before_a_file_is_replaced(run, tmp_path, monkeypatch):
    out = export(run, tmp_path / "out").folder
    monkeypatch.setattr("gcc_search.frontier_export.export_one", failing)
    with pytest.raises(OSError, match="no more"):
        export(run, out, force=True)
    assert "README.md" not in names_in(out)


def failing(*given) -> None:
    raise OSError("no more")


def test_what_was_left_out_refused_or_there_before_is_said(run, tmp_path):
    (run / "trials" / "beaten" / "trial.json").write_text("{")
    export(run, tmp_path / "out")
    wish = Wish(max_accuracy_drop=1.0)
    plan = export(run, tmp_path / "out", wish, force=True)
    console = Console(file=io.StringIO(), width=200)
    say_export(plan, console)
    printed = console.file.getvalue()
    assert "trials left out of 3: 2 losing more than 1 points\n" in printed
    assert "not of this frontier, but there before: between.safetensors, t1.safetensors\n" in printed
    assert "refused files: 1\n" in printed
    index = plan.index.read_text()
    assert "None of the 1 trials that qualify (constraints kept, at most 1 points lost; left out:\n2 losing" in index


def test_trials_without_a_measure_are_no_frontier(run, tmp_path):
    for name in MEASURED:
        record = read_trial(run / "trials" / name).record
        write_trial(run / "trials" / name, replace(record, validation=record.validation | {"gini": None}))
    with pytest.raises(ResultsError, match="must have a trial with all that it ranks by, got none; see analyze"):
        export(run, tmp_path / "out")
