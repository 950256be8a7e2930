import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from gcc_search.analysis.against_paper import MEASURED
from gcc_search.analysis.findings import find
from gcc_search.analysis.printing import print_findings
from gcc_search.analysis.published import FIGURE_2, FIGURE_3, TABLE_1, TABLE_2
from gcc_search.analysis.report import analyze
from gcc_search.analysis.tradeoff_figure import draw_tradeoff
from gcc_search.errors import ResultsError
from gcc_search.results.reader import read_run
from gcc_search.results.writer import write_run
from gcc_search.space import load_space

NOTED = f"beside the paper's numbers (one network each, no validation split mentioned); differs: {MEASURED}"


def change(builder, **sections):
    """The settings of every trial of the run, changed in place before it is analyzed."""
    run = read_run(builder.folder)
    for trial in run.trials:
        for name, value in sections.items():
            old = trial.record.settings.get(name)
            trial.record.settings[name] = old | value if isinstance(old, dict) else value
    return run


@pytest.fixture
def caltech(new_run):
    run = new_run()
    run.baseline(accuracy=93.0, data="caltech101")
    run.trial("t1", accuracy=92.0, data="caltech101", corrected=0.4)
    return run


def told(findings) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_findings(findings, [Path("analysis/frontier.png")], console)
    return console.file.getvalue()


def test_table_1_has_eighteen_lines_each_with_its_cells():
    cells = {line.ours.source: line.ours.value for line in TABLE_1}
    assert len(cells) == len(TABLE_1) == 18
    assert cells["Table 1, ResNet50, Ours, CUB-200, Consistency"] == 89.64
    bases = {line.baseline.source: line.baseline.value for line in TABLE_1}
    assert bases["Table 1, ConvNeXT, Base, Caltech101, Consistency"] == 41.00


def test_the_rows_of_table_2_agree_where_they_share_a_cell():
    p, alpha, beta = (dict(row.points) for row in TABLE_2)
    assert alpha[1.0].value == beta[1e-5].value == 30.08
    assert p[1.0].value == beta[1e-6].value == 81.71
    assert dict(TABLE_2[1].fixed)["beta"] == 1e-5


def test_the_figures_captions_are_kept_as_printed():
    assert (FIGURE_2.ours.mean.value, FIGURE_2.ours.sd.value) == (0.7604, 0.1329)
    assert {found.network: found.spread.mean.value for found in FIGURE_3} == {
        "convnext_tiny": -0.1057,
        "resnet18": -0.3151,
        "resnet50": 2.5918,
    }


def test_a_network_on_the_papers_data_set_stands_beside_its_numbers(caltech):
    paper = find(read_run(caltech.folder), with_paper=True).paper
    accuracy = paper.lines[0]
    assert (accuracy.published.baseline.value, accuracy.published.ours.value) == (92.68, 92.50)
    # Every image of the builder's images.parquet is correct.
    assert (accuracy.baseline_difference, accuracy.ours_difference) == pytest.approx((7.32, 7.5))
    assert [found.network for found in paper.tradeoffs] == ["resnet18"]
    assert [(mark.source, mark.baseline, mark.ours) for mark in paper.marks] == [
        ("paper, Table 1", pytest.approx(0.6967), pytest.approx(0.8344))
    ]
    assert paper.notes == (f"resnet18 on caltech101: {NOTED}",)


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"data": {"classes": ["ant", "emu"]}}, "2 of the data set's classes"),
        ({"data": {"max_images_per_class": 45}}, "at most 45 images a class"),
        ({"weights": "none"}, "started from none (paper: IMAGENET1K_V1)"),
        ({"weights": "start:resnet18-abc"}, "started from a network trained by the search (paper: IMAGENET1K_V1)"),
        ({"data": {"name": "shapes"}}, "the paper has CUB-200 and Caltech101"),
    ],
)
def test_what_cannot_be_compared_is_not_and_says_why(caltech, sections, why):
    run = change(caltech, **sections)
    for baseline in run.baselines.values():
        baseline.record.settings["data"] = run.trials[0].record.settings["data"]
    paper = find(run, with_paper=True).paper
    assert (paper.lines, paper.tradeoffs, paper.marks, paper.series) == ((), (), (), ())
    data = run.trials[0].record.settings["data"]["name"]
    assert paper.notes == (
        f"resnet18 on {data}: not compared with the paper: {why}",
        "nothing of this run can be compared with the paper",
    )


def test_of_several_limits_on_the_images_the_largest_is_told(new_run):
    run = new_run()
    run.baseline(data="caltech101")
    for limit in (30, 45, 15):
        settings = {"data": {"name": "caltech101", "max_images_per_class": limit}}
        run.trial(f"t{limit}", data="caltech101", settings=settings)
    assert find(read_run(run.folder), with_paper=True).paper.notes[0].endswith(": at most 45 images a class")


def test_figure_2_is_marked_with_the_spread_of_each_of_its_two(new_run):
    run = new_run()
    run.baseline(data=FIGURE_2.data)
    run.trial("t1", data=FIGURE_2.data)
    *_, mark = find(read_run(run.folder), with_paper=True).paper.marks
    assert mark.source == "paper, Fig. 2 (network not named)"
    for found, mean, sd in (
        (FIGURE_2.baseline, mark.baseline, mark.baseline_sd),
        (FIGURE_2.ours, mark.ours, mark.ours_sd),
    ):
        assert (found.mean.value, found.sd.value) == (mean, sd)


def test_a_recipe_that_differs_is_told(caltech):
    explanation = {"sparsity": "searched", "photometric": 0.5}
    run = change(caltech, weights="my.pth", recipe={"epochs": 5, "lr": 0.001}, explanation=explanation)
    (note,) = find(run, with_paper=True).paper.notes
    assert note.endswith(
        f"; differs: {MEASURED}, weights my.pth (paper: IMAGENET1K_V1), epochs 5 (paper: 20), "
        "sparsity searched (paper: paper), photometric 0.5 (paper: 0)"
    )


@pytest.mark.parametrize(
    ("data", "told_split"),
    [("caltech101", ", test_fraction 0.5 (paper: not told, 0.2 assumed)"), ("cub200", "")],
)
def test_a_split_that_differs_is_told_where_the_authors_give_none(new_run, data, told_split):
    run = new_run()
    run.baseline(data=data)
    run.trial("t1", data=data, settings={"data": {"name": data, "test_fraction": 0.5}})
    (note,) = find(read_run(run.folder), with_paper=True).paper.notes
    assert note == f"resnet18 on {data}: {NOTED}{told_split}"


ASHA = {"type": "asha", "metric": "gini", "min_epochs": 2}
BAYES = "method bayes (paper's Fig. 3: random)"


@pytest.mark.parametrize(
    ("space", "differs"),
    [
        ({"method": "random", "early_terminate": None}, []),
        ({"method": "grid"}, ["method grid (paper's Fig. 3: random)"]),
        ({"method": "bayes", "metrics": [{"name": "gini"}], "constraints": ["gini >= 0.4"]}, [BAYES]),
        (
            {"method": "bayes", "constraints": ["gini >= 0.4", "accuracy >= baseline - 1.0"]},
            [
                BAYES,
                "led to settings that cost little accuracy: accuracy among the metrics and accuracy >= baseline - 1.0",
            ],
        ),
        (
            {"method": "random", "early_terminate": ASHA},
            ["early_terminate by gini: the box of tradeoffs is without what was stopped"],
        ),
        (
            {"method": "random", "early_terminate": ASHA | {"metric": None}},
            ["early_terminate by all metrics: the box of tradeoffs is without what was stopped"],
        ),
    ],
)
def test_a_search_that_is_not_random_is_told_beside_figure_3(caltech, space, differs):
    run = read_run(caltech.folder)
    run.record.space.update(space)
    (note,) = find(run, with_paper=True).paper.notes
    assert note == ", ".join([f"resnet18 on caltech101: {NOTED}", *differs])


@pytest.mark.parametrize(
    ("network", "data", "has_failing"),
    [("resnet18", "caltech101", True), ("resnet50", "cub200", True), ("resnet18", "cub200", False)],
)
def test_where_the_paper_has_failing_trials_those_given_up_early_are_told(new_run, network, data, has_failing):
    run = new_run()
    run.baseline(network, data=data)
    epochs = 20 if data == "caltech101" else 60
    for index, (status, done) in enumerate(
        [("finished", epochs), ("collapsed", 3), ("collapsed", 2), ("collapsed", 5), ("collapsed", 4)]
    ):
        run.trial(f"t{index}", network, status, data=data, epochs=done, settings={"recipe": {"epochs": epochs}})
    (note,) = find(read_run(run.folder), with_paper=True).paper.notes
    told = f", 4 collapsed given up in epoch 2 to 5 of {epochs} (paper: failing ones trained to the end)"
    assert note == f"{network} on {data}: {NOTED}{told if has_failing else ''}"


def test_collapsed_trials_that_were_trained_to_the_end_as_in_the_paper_are_no_difference(new_run):
    run = new_run()
    run.baseline(data="caltech101")
    run.trial("t1", status="collapsed", data="caltech101", epochs=20, settings={"recipe": {"epochs": 20}})
    assert find(read_run(run.folder), with_paper=True).paper.notes == (f"resnet18 on caltech101: {NOTED}",)


def test_where_the_paper_has_no_tradeoffs_the_search_is_not_told(new_run):
    run = new_run()
    run.record.space.update(method="bayes")
    write_run(run.folder, run.record)
    run.baseline(data="cub200")
    run.trial("t1", data="cub200")
    assert find(read_run(run.folder), with_paper=True).paper.notes == (f"resnet18 on cub200: {NOTED}",)


def test_the_shipped_search_of_caltech_says_how_it_differs_from_figure_3(caltech):
    run = read_run(caltech.folder)
    run.record.space.update(
        load_space(Path(__file__).parents[2] / "search_spaces/caltech.yaml").model_dump(mode="json")
    )
    (note,) = find(run, with_paper=True).paper.notes
    assert f"{BAYES}, led to settings that cost little accuracy: accuracy among the metrics and accuracy >=" in note


def test_rows_of_table_2_stand_beside_rows_of_the_same_parameter_in_the_papers_form(new_run):
    run = new_run()
    run.baseline("resnet50", data="cub200", accuracy=82.0)
    for p in (0.0, 1.0):
        settings = {"alpha": 1.0, "beta": 1e-6, "p": p}
        run.trial(f"p{p:g}", "resnet50", data="cub200", accuracy=81.5, sampled=settings, **settings)
    assert find(read_run(run.folder), with_paper=True).paper.series == ()
    found = find(change(run, explanation={"sparsity": "paper"}), with_paper=True)
    assert [row.parameter for row in found.paper.series] == ["p"]
    assert "  Table 2, resnet50, p (alpha 1, beta 1e-06): 0: 80.62 | 1: 81.71 | 2: 81.26" in told(found)
    # Where some trials have another form, beta is not the paper's.
    run.trial("t3", "resnet50", data="cub200", sampled=settings, **settings | {"alpha": 2.0})
    mixed = change(run, explanation={"sparsity": "paper"})
    mixed.trials[-1].record.settings["explanation"]["sparsity"] = "searched"
    assert find(mixed, with_paper=True).paper.series == ()


def test_rows_of_another_network_are_not_those_of_table_2(new_run):
    run = new_run()
    for network in ("resnet18", "resnet50"):
        run.baseline(network, data="cub200")
    for p in (0.0, 1.0):
        settings = {"alpha": 1.0, "beta": 1e-6, "p": p}
        run.trial(f"p{p:g}", "resnet18", data="cub200", sampled=settings, **settings)
    run.trial("alone", "resnet50", data="cub200", sampled=settings, **settings)
    paper = find(change(run, explanation={"sparsity": "paper"}), with_paper=True).paper
    assert {line.published.network for line in paper.lines} == {"resnet18", "resnet50"}
    assert paper.series == ()


def test_the_papers_columns_are_written_only_when_asked_for(caltech):
    def columns(**asked):
        (path,) = [path for path in analyze(caltech.folder, **asked).files if path.name == "table1.csv"]
        return next(csv.DictReader(io.StringIO(path.read_text())))

    assert not any(name.startswith("paper") for name in columns())
    row = columns(compare="paper")
    assert (row["paper_baseline"], row["paper_ours"]) == ("92.68", "92.5")
    assert row["paper_ours_source"] == "Table 1, ResNet18, Ours, Caltech101, Top-1 Acc (%)"


def test_the_papers_tradeoff_stands_beside_the_box(caltech):
    found = find(read_run(caltech.folder), with_paper=True)
    figure = draw_tradeoff(found.tradeoffs, paper=found.paper.tradeoffs, title="demo")
    assert "paper: -0.32 ± 0.75" in figure.axes[-1].get_xticklabels()[0].get_text()
    assert "the paper's Fig. 3" in figure.axes[0].get_title(loc="left")


def test_any_other_comparison_is_refused_in_a_line(caltech):
    with pytest.raises(ResultsError, match=r'^--compare: must be paper, got "baseline"; leave it out'):
        analyze(caltech.folder, compare="baseline")
