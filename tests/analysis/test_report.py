import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from gcc_search.analysis.boundary import COUNTED
from gcc_search.analysis.findings import find, say_way_out
from gcc_search.analysis.printing import print_findings
from gcc_search.analysis.report import analyze
from gcc_search.errors import ResultsError
from gcc_search.results.files import read_json
from gcc_search.results.reader import read_run
from gcc_search.results.seal import sealed_parquet
from gcc_search.results.writer import write_run

FILES = [
    "report.html",
    "frontier.png",
    "frontier.svg",
    "tradeoff.png",
    "tradeoff.svg",
    "consistency.png",
    "consistency.svg",
    "effects.png",
    "effects.svg",
    "boundary.png",
    "boundary.svg",
    "heatmaps.png",
    "heatmaps.svg",
    "importance.png",
    "importance.svg",
    "growth.png",
    "growth.svg",
    "table1.csv",
    "effects.csv",
    "importance.csv",
    "best.csv",
    "trials.csv",
    "columns.csv",
    "frontier.json",
    "tradeoff.json",
    "consistency.json",
    "effects.json",
    "boundary.json",
    "growth.json",
    "heatmaps.json",
]


def printed(analysis) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_findings(analysis, analysis.files, console)
    return console.file.getvalue()


def told(folder) -> str:
    """What `analyze` would print, without the time it takes to draw."""
    console = Console(file=io.StringIO(), width=100)
    print_findings(find(read_run(folder)), [folder / "analysis" / "frontier.png"], console)
    return console.file.getvalue()


def test_analyze_writes_every_file_and_nothing_else(analyzed):
    folder = analyzed.files[0].parent
    assert folder.parts[-2:] == ("demo", "analysis")
    assert list(analyzed.files) == [folder / name for name in FILES]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert all(path.stat().st_size > 1 for path in analyzed.files)


def test_analyze_counts_a_running_trial_and_does_not_score_it(analyzed):
    assert analyzed.counts == {"collapsed": 1, "diverged": 1, "failed": 1, "finished": 4, "running": 1, "stopped": 1}
    assert (analyzed.problems, analyzed.waiting) == ((), ())
    assert "t7" not in [point.id for point in analyzed.frontier.points]


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "diverged"])
def test_a_trial_waits_for_a_baseline_that_has_not_finished(mixed_run, status):
    mixed_run.trial("c1", "convnext_tiny")
    mixed_run.baseline("convnext_tiny", status=status)
    assert find(read_run(mixed_run.folder)).waiting == ("c1",)
    what_helps = "gcc-search resume RUN trains what is missing"
    assert f"left out, their baselines have not finished ({what_helps}): c1" in told(mixed_run.folder)


def test_a_trial_waits_for_a_baseline_that_has_not_begun(mixed_run):
    mixed_run.trial("c1", "convnext_tiny")
    assert find(read_run(mixed_run.folder)).waiting == ("c1",)


def test_a_run_whose_trials_all_wait_is_drawn_empty(new_run):
    run = new_run()
    run.baseline(status="running")
    run.trial("t1")
    assert analyze(run.folder).frontier.points == ()


def test_the_figures_can_be_redrawn_from_their_files(analyzed):
    folder = analyzed.files[0].parent
    frontier, tradeoff = read_json(folder / "frontier.json"), read_json(folder / "tradeoff.json")
    assert [point["id"] for point in frontier["frontier"]["points"]] == [p.id for p in analyzed.frontier.points]
    assert tradeoff["networks"][0]["finished"] == list(analyzed.tradeoffs[0].finished)
    assert (frontier["run"], frontier["seed"]) == ("demo", 7)
    assert read_json(folder / "boundary.json")["counted"] == COUNTED


def test_analyzing_again_gives_the_same_bytes_and_leaves_nothing_of_another_comparison(mixed_run):
    first = {path: path.read_bytes() for path in analyze(mixed_run.folder).files}
    (mixed_run.folder / "analysis/paper.json").write_text("of an earlier --compare paper")
    assert {path: path.read_bytes() for path in analyze(mixed_run.folder).files} == first
    assert not (mixed_run.folder / "analysis/paper.json").exists()


def test_best_csv_has_every_feasible_trial_with_what_else_was_sampled(analyzed):
    rows = list(csv.DictReader(io.StringIO((analyzed.files[0].parent / "best.csv").read_text())))
    assert [row["trial"] for row in rows] == ["resnet18-base", "resnet50-base", "t2", "t1", "r1"]
    assert [row["sampled.lr"] for row in rows] == ["", "", "", "0.01", ""]


def test_what_is_printed_tells_counts_table_tradeoff_and_files(analyzed):
    text = printed(analyzed)
    assert "demo: trials: 9 (1 collapsed, 1 diverged, 1 failed, 4 finished, 1 running, 1 stopped)" in text
    assert "resnet18: -1.17 ± 3.33 (n = 3); with collapsed: +17.62 ± 37.68 (n = 4)" in text
    assert "(n = 4)\n    without 1 stopped early, which have no test accuracy\n  resnet50: " in text
    assert f"wrote {analyzed.files[0].parent}: report.html, frontier.png" in text
    assert "refused" not in text


@pytest.mark.parametrize("epochs", [1, 6])
def test_what_is_printed_tells_which_collapsed_trials_were_given_up(new_run, epochs):
    run = new_run()
    run.baseline()
    run.trial("t1", status="collapsed", accuracy=20.0, epochs=epochs, settings={"recipe": {"epochs": 6}})
    line = "(n = 1)\n    1 collapsed was given up in epoch 1 of 6, baselines trained to the end\n"
    assert (line in told(run.folder)) == (epochs < 6)
    assert ("given up" in told(run.folder)) == (epochs < 6)


def test_a_collapsed_trial_in_a_row_of_test_accuracies_is_marked_and_no_line_is_too_long(new_run):
    run = new_run()
    run.baseline()
    for alpha, status, epochs in ((1, "finished", 6), (2, "collapsed", 4), (3, "collapsed", 6), (4, "collapsed", 2)):
        values = {"alpha": float(alpha), "sampled": {"alpha": float(alpha)}}
        run.trial(
            f"t{alpha}", status=status, accuracy=25.0, epochs=epochs, settings={"recipe": {"epochs": 6}}, **values
        )
    text = told(run.folder)
    cells = "1: 25.00 | 2: 25.00 (collapsed, epoch 4) | 3: 25.00 (collapsed) |\n    4: 25.00 (collapsed, epoch 2)\n"
    assert f"equal:\n  resnet18, alpha (): {cells}" in text


def test_more_than_ten_feasible_trials_are_pointed_to(new_run):
    run = new_run()
    run.baseline()
    for index in range(13):
        run.trial(f"t{index:02d}")
    assert "... and 3 more feasible trials in best.csv" in told(run.folder)


def test_a_run_without_feasible_trials_is_analyzed_and_says_so(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    run.trial("t1", accuracy=80.0)
    assert "no feasible trial: none of 1 that finished kept accuracy >= baseline - 1.0\n" in told(run.folder)


def test_trials_that_differ_in_one_setting_stand_in_a_row(new_run):
    run = new_run()
    run.baseline()
    for p, accuracy in ((0, 93.62), (2, 93.26)):
        run.trial(f"t{p}", accuracy=accuracy, alpha=1.0, p=p, sampled={"alpha": 1.0, "p": p})
    assert "  resnet18, p (alpha 1.0): 0: 93.62 | 2: 93.26" in told(run.folder)


def test_in_a_row_choices_have_their_names(new_run):
    run = new_run()
    run.baseline()
    for distance, accuracy in (("ssim", 90.0), ("correlation", 91.0)):
        settings = {"explanation": {"alpha": 1.0, "beta": 0.0, "p": 1.0, "distance": distance}}
        sampled = {"alpha": 1.0, "distance": distance}
        run.trial(distance, accuracy=accuracy, settings=settings, sampled=sampled)
    assert "  resnet18, distance (alpha 1.0): correlation: 91.00 | ssim: 90.00" in told(run.folder)


def test_brackets_in_names_are_printed_as_they_are(new_run):
    run = new_run()
    run.baseline()
    run.trial("[red]t1")
    assert "[red]t1" in told(run.folder)


@pytest.mark.parametrize("name", ["trial.json", "epochs.parquet", "images.parquet", "heatmaps.parquet"])
def test_a_torn_file_is_named_and_the_rest_is_used(mixed_run, name):
    path = mixed_run.folder / "trials/t2" / name
    path.write_bytes(path.read_bytes()[:-20])
    findings = find(read_run(mixed_run.folder))
    assert [problem.startswith(f"{path}: must be whole") for problem in findings.problems] == [True]
    assert f"refused files: 1\n  {path}: must be whole" in told(mixed_run.folder)
    assert "t1" in [row.trial for row in findings.rows]


@pytest.mark.parametrize("trial", ["t1", "t2"])
@pytest.mark.parametrize("name", ["epochs.parquet", "images.parquet"])
def test_a_table_of_another_schema_version_is_named_and_the_rest_is_used(mixed_run, trial, name):
    """t2 is the one that Table 1 reads, t1 is not."""
    path = mixed_run.folder / "trials" / trial / name
    later = pq.read_table(path).replace_schema_metadata({"gcc_search.schema_version": "3"})
    path.write_bytes(sealed_parquet(later))
    findings = find(read_run(mixed_run.folder))
    told = "schema_version must be 1 or 2, got 3; read it with the gcc-search that wrote it"
    assert findings.problems == (f"{path}: {told}",)
    assert {"t1", "t2"} <= {row.trial for row in findings.rows}


@pytest.mark.parametrize("changed", ["trials/chosen", "baselines/resnet18-base"])
def test_of_the_chosen_trials_and_its_baselines_images_every_bit_is_verified(new_run, changed):
    run = new_run()
    many = {"consistency": np.random.default_rng(0).random(20_000)}
    run.baseline(images=many)
    run.trial("chosen", corrected=0.9, images=many)
    run.trial("other", corrected=0.1, images=many)
    for folder in (changed, "trials/other"):
        path = run.folder / folder / "images.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    findings = find(read_run(run.folder))
    assert [problem.split(": must")[0] for problem in findings.problems] == [f"{run.folder}/{changed}/images.parquet"]
    assert findings.comparisons[0].disagreement is None


@pytest.mark.parametrize(
    ("status", "is_told"), [("collapsed", True), ("stopped", True), ("interrupted", True), ("running", False)]
)
def test_a_torn_table_of_a_trial_that_ended_is_named_however_it_ended(new_run, status, is_told):
    run = new_run()
    run.baseline()
    run.trial("whole")
    run.trial("torn", status=status)
    path = run.folder / "trials/torn/epochs.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    problems = find(read_run(run.folder)).problems
    assert [problem.split(": must")[0] for problem in problems] == [str(path)] * is_told


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"must be a run directory \(with a run.json\), got a folder without one"):
        analyze(tmp_path)


def test_without_a_finished_trial_the_others_are_counted(new_run):
    run = new_run()
    run.trial("t1", status="running")
    run.trial("t2", status="running")
    run.trial("t3", status="stopped")
    rule = "demo: must have a finished, collapsed or diverged trial, got 2 running, 1 stopped"
    with pytest.raises(ResultsError, match=f"{rule}; wait for the search, or go on with it: gcc-search resume RUN"):
        analyze(run.folder)


def test_where_all_failed_the_reason_is_told(new_run):
    run = new_run()
    run.trial("t1", status="failed")
    with pytest.raises(ResultsError, match=r"got 1 failed; t1 failed: made failed; where that is mended, remove its"):
        analyze(run.folder)


def test_where_no_trial_could_begin_another_recipe_is_what_helps(new_run):
    record = new_run().trial("t1", status="failed")
    record = replace(record, reason="the baseline b it needs diverged: loss is nan in epoch 1")
    told = f"t1 failed: {record.reason}; change its recipe, then start a new run"
    assert say_way_out([record]) == told


@pytest.mark.parametrize("statuses", [("collapsed", "collapsed"), ("diverged", "diverged"), ("collapsed", "diverged")])
def test_a_search_in_which_nothing_trained_is_drawn(new_run, statuses):
    run = new_run(constraints=())
    run.baseline(accuracy=94.0)
    for index, status in enumerate(statuses):
        values = {"alpha": 10.0**index, "beta": 0.1}
        run.trial(f"t{index}", status=status, accuracy=20.0, sampled=values, **values)
    found = analyze(run.folder)
    assert [(panel.fit, len(panel.dots)) for panel in found.boundary.panels] == [("all failed", 2)]
    assert re.search(r"no feasible trial: none finished( \([12] collapsed\))?\n", printed(found))


def test_without_any_trial_that_is_said(new_run):
    with pytest.raises(ResultsError, match=r"demo: must have a finished, .* trial, got no trial; "):
        analyze(new_run().folder)


def test_a_single_training_is_no_search_and_the_way_out_is_named(new_run):
    run = new_run()
    run.trial("resnet18", baseline=None)
    write_run(run.folder, replace(run.record, space={"metrics": [], "constraints": [], "single": {}}))
    with pytest.raises(ResultsError, match=r"must be a search, .* got one network .*; use gcc-search --space FILE"):
        analyze(run.folder)


def test_everything_printed_fits_100_columns(analyzed):
    # Where the run lies is the user's choice.
    folder = str(analyzed.files[0].parents[1])
    lines = [line for line in printed(analyzed).splitlines() if folder not in line]
    assert max(len(line.rstrip()) for line in lines) <= 100


@pytest.mark.parametrize("scenario", ["no finished trial", "torn baseline", "no run"])
def test_a_refusal_is_one_line_and_writes_nothing(new_run, scenario):
    run = new_run()
    if scenario == "torn baseline":
        run.trial("t1")
        run.baseline()
        (run.folder / "baselines/resnet18-base/trial.json").write_text('{"id"')
    folder = run.folder if scenario != "no run" else run.folder / "nowhere"
    with pytest.raises(ResultsError) as error:
        analyze(folder)
    assert "\n" not in str(error.value)
    assert not (run.folder / "analysis").exists()


def loaded_by(statement: str) -> set[str]:
    """Which of torch and ray a fresh Python has loaded after `statement`."""
    probe = f"{statement}; import json, sys; print(json.dumps([n for n in ('torch', 'ray') if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_analysis_loads_neither_torch_nor_ray():
    assert loaded_by("import gcc_search.analysis.report") == set()


def test_the_probe_would_notice_torch():
    assert loaded_by("import gcc_search.analysis.report, torch") == {"torch"}


def test_a_password_that_an_older_run_kept_is_not_passed_on(mixed_run):
    record = read_run(mixed_run.folder).record
    write_run(mixed_run.folder, replace(record, command="gcc-search --storage 'mysql://me:secret@host/s?x=1' --gpus 2"))
    findings = find(read_run(mixed_run.folder))
    assert findings.run.command == "gcc-search --storage 'mysql://me:***@host/s?x=1' --gpus 2"
