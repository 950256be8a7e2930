import csv
import shlex

from gcc_search.analysis.origins import Origin, find_origins
from gcc_search.analysis.report import analyze
from gcc_search.analysis.several import read_runs
from gcc_search.results.files import read_json
from gcc_search.results.reader import read_run
from tests.analysis.conftest import RunBuilder


def test_a_trial_is_found_below_its_run_and_trained_again_from_where_analyze_was_called(mixed_run, monkeypatch):
    monkeypatch.chdir(mixed_run.folder.parent.parent)
    found = find_origins(read_run(mixed_run.folder.relative_to(mixed_run.folder.parent.parent)))
    assert found["t1"] == Origin(directory="trials/t1", command="gcc-search train --like runs/demo/trials/t1")
    assert found["resnet18-base"].directory == "baselines/resnet18-base"


def test_of_several_runs_the_directory_begins_with_the_run(tmp_path):
    runs = [RunBuilder(tmp_path / folder / name) for folder, name in (("here", "a"), ("my runs", "b"))]
    for run in runs:
        run.baseline()
        run.trial("t1")
    found = find_origins(read_runs([run.folder for run in runs]))
    assert [found[name].directory for name in ("a/t1", "b/t1", "b/resnet18-base")] == [
        *("a/trials/t1", "b/trials/t1", "b/baselines/resnet18-base")
    ]
    assert shlex.split(found["b/t1"].command) == [*("gcc-search", "train", "--like"), str(runs[1].folder / "trials/t1")]


def test_every_point_and_every_row_leads_to_its_trial(mixed_run):
    folder = analyze(mixed_run.folder).files[0].parent
    frontier = read_json(folder / "frontier.json")["frontier"]
    told = {point["id"]: point for point in (*frontier["points"], *frontier["baselines"])}
    for name in ("best.csv", "trials.csv"):
        with (folder / name).open() as file:
            told |= {f"{name} {row['trial']}": row for row in csv.DictReader(file)}
    assert len(told) == (5 + 2) + (3 + 2) + 9
    for row in told.values():
        trained = shlex.split(row["command"])[-1]
        assert trained == str(mixed_run.folder / row["directory"])
        assert (mixed_run.folder / row["directory"] / "trial.json").exists()
