from dataclasses import replace

import pytest

from gcc_search.analysis.pairing import pair_with_baselines
from gcc_search.analysis.report import analyze
from gcc_search.analysis.several import read_runs, trial_directory
from gcc_search.errors import ResultsError
from gcc_search.results.writer import write_run
from tests.analysis.conftest import RunBuilder


@pytest.fixture
def two_runs(tmp_path):
    """Trials and baselines of the same names in both; the second run's baseline is better."""
    runs = [RunBuilder(tmp_path / "runs" / name) for name in ("first", "second")]
    for run, accuracy in zip(runs, (90.0, 95.0), strict=True):
        run.baseline(accuracy=accuracy)
        run.trial("t1", accuracy=accuracy - 0.5, corrected=accuracy / 200)
    return runs


def test_trials_of_several_runs_are_read_together_each_with_its_own_baseline(two_runs):
    analysis = analyze([run.folder for run in two_runs])
    assert analysis.run.name == "first + second"
    assert analysis.tradeoffs[0].finished_ids == ("first/t1", "second/t1")
    assert analysis.tradeoffs[0].finished == (0.5, 0.5)
    assert analysis.comparisons[0].trial == "second/t1"
    assert analysis.files[0].parent == two_runs[0].folder.parent / "analysis-first+second"


def test_a_torn_baseline_is_called_torn_also_where_several_runs_are_read(two_runs):
    folders = [run.folder for run in two_runs]
    (folders[1] / "baselines/resnet18-base/trial.json").write_text('{"id"')
    with pytest.raises(ResultsError, match=r"second/trials/t1: must have its baseline .* got a torn one"):
        pair_with_baselines(read_runs(folders))


def test_the_folder_to_write_to_can_be_given(two_runs, tmp_path):
    analysis = analyze(two_runs[0].folder, out=tmp_path / "elsewhere")
    assert {path.parent for path in analysis.files} == {tmp_path / "elsewhere"}


def test_one_run_is_read_as_it_is(two_runs):
    (run, _) = two_runs
    assert [trial.record.id for trial in read_runs([run.folder]).trials] == ["t1"]


def test_runs_that_were_searched_in_different_ways_name_each_of_them(two_runs):
    early = {"type": "asha", "metric": "gini"}
    for run, method, stop in zip(two_runs, ("random", "bayes"), (None, early), strict=True):
        write_run(run.folder, replace(run.record, space=run.record.space | {"method": method, "early_terminate": stop}))
    space = read_runs([run.folder for run in two_runs]).record.space
    assert (space["method"], space["early_terminate"]) == ("random, bayes", early)
    assert space["methods"] == {"first": "random", "second": "bayes"}


@pytest.mark.parametrize(
    ("field", "values"),
    [("recipe.lr", (0.1, 0.2)), ("evaluation.seed", (0, 1))],
)
def test_runs_of_different_recipes_are_refused_by_field(two_runs, field, values):
    section, name = field.split(".")
    for run, value in zip(two_runs, values, strict=True):
        write_run(run.folder, replace(run.record, space=run.record.space | {section: {name: value}}))
    expected = rf"second: {field} must be that of .*first, {values[0]}, got {values[1]}; analyze the two one by one"
    with pytest.raises(ResultsError, match=expected):
        read_runs([run.folder for run in two_runs])


def test_runs_whose_trials_start_from_other_networks_are_refused(two_runs):
    for run, weights in zip(two_runs, ("none", "IMAGENET1K_V1"), strict=True):
        started = {"weights": "baseline", "start": {"epochs": 2}, "start_weights": weights}
        write_run(run.folder, replace(run.record, space=run.record.space | started))
    expected = r"second: start_weights must be that of .*first, none, got IMAGENET1K_V1; analyze the two one by one"
    with pytest.raises(ResultsError, match=expected):
        read_runs([run.folder for run in two_runs])


def test_runs_of_different_code_of_a_network_of_ones_own_are_refused(two_runs):
    versions = ({"torch": "2.14", "own-nets": "0.1 (01234567)"}, {"torch": "2.15", "own-nets": "0.1 (89abcdef)"})
    for run, told in zip(two_runs, versions, strict=True):
        write_run(run.folder, replace(run.record, versions=told))
    expected = r"second: code of own-nets must be that of .*first, 0\.1 \(01234567\), got 0\.1 \(89abcdef\); analyze"
    with pytest.raises(ResultsError, match=expected):
        read_runs([run.folder for run in two_runs])
    # Where one of them has no network of it.
    write_run(two_runs[1].folder, replace(two_runs[1].record, versions={"torch": "2.15"}))
    assert len(read_runs([run.folder for run in two_runs]).trials) == 2


def test_runs_on_different_images_are_refused(two_runs):
    for run, fingerprint in zip(two_runs, "ab", strict=True):
        images = {"name": "shapes", "image_size": 64, "fingerprint": fingerprint}
        write_run(run.folder, replace(run.record, data=[images]))
    with pytest.raises(ResultsError, match=r"images at 64 pixels must be that of .*first"):
        read_runs([run.folder for run in two_runs])


def test_the_same_run_twice_is_refused(two_runs):
    with pytest.raises(ResultsError, match="names must differ, got first, first; rename a folder"):
        read_runs([two_runs[0].folder] * 2)


def test_a_trials_directory_is_told_with_its_run():
    assert (trial_directory("t1"), trial_directory("first/t1")) == ("trials/t1", "first/trials/t1")
