import csv
import io
import re

import pytest
import torch
from rich.console import Console

from gcc_search.analysis.best import Row, best_trials
from gcc_search.analysis.feasibility import read_question
from gcc_search.analysis.frontier import find_frontier
from gcc_search.analysis.listing import explain_columns, list_trials
from gcc_search.analysis.pairing import pair_with_baselines
from gcc_search.analysis.several import read_runs
from gcc_search.analysis.table import best_table, short_scientific, to_csv
from gcc_search.results.reader import read_run
from gcc_search.results.schema import IMAGE_COLUMNS
from gcc_search.training.evaluation import summarise
from tests.analysis.conftest import RunBuilder


def read_and_find(builder):
    run = read_run(builder.folder)
    pairs = pair_with_baselines(run)
    return run, pairs, find_frontier(pairs, read_question(run.record))


def rows_of(builder) -> tuple[Row, ...]:
    _, pairs, frontier = read_and_find(builder)
    return best_trials(pairs, frontier)


def printed(rows, *, limit: int = 10, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(best_table(rows, limit=limit))
    return console.file.getvalue()


def test_baselines_come_first_then_feasible_trials_by_validation_corrected_consistency(mixed_run):
    rows = rows_of(mixed_run)
    expected = [(None, "resnet18-base"), (None, "resnet50-base"), (1, "t2"), (2, "t1"), (3, "r1")]
    assert [(row.rank, row.trial) for row in rows] == expected


def test_a_row_holds_settings_validation_rank_and_test_values(mixed_run):
    assert rows_of(mixed_run)[3] == Row(
        rank=2,
        trial="t1",
        network="resnet18",
        on_frontier=True,
        alpha=1e-3,
        beta=2.5e-4,
        p=1.0,
        sampled={"lr": 0.01},
        own={"seed": 0, "distance": "ssim", "photometric": 0.0, "opposing": "kept"},
        validation_corrected_consistency=0.40,
        accuracy_points=93.5,
        tradeoff_points=0.5,
        consistency=0.65 + 0.35 * 0.4,
        corrected_consistency=0.40,
        degenerate_fraction=None,
        gini=0.50,
        iauc=0.81,
        box_mass=None,
    )


def test_the_table_fits_100_columns_whatever_the_names(new_run):
    run = new_run()
    run.baseline("convnext_tiny", key="convnext_tiny-caltech101-seed0-0123456789abcdef")
    baseline = "convnext_tiny-caltech101-seed0-0123456789abcdef"
    for index in range(12):
        run.trial(f"{index:04d}_0123abcd", "convnext_tiny", baseline=baseline, alpha=1e-3, beta=5e-4, box_mass=0.4)
    lines = printed(rows_of(run)).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert len(lines) == 2 + 1 + 10
    run.trial("0012_0123abcd", "convnext_tiny", baseline=baseline, corrected=0.45, box_mass=0.4, constant=0.25)
    widest = printed(rows_of(run)).splitlines()
    assert max(len(line.rstrip()) for line in widest) <= 100
    assert not any("…" in cell for line in widest for cell in line.split()[2:])
    assert "…3456789abcdef convnext_tiny" in lines[2]
    assert lines[3].rstrip().endswith("0.81 0.40")


@pytest.mark.parametrize("runs", [("a", "b"), ("sweep-of-may-1", "sweep-of-may-2"), ("alpha-of-may", "betas-of-may")])
def test_rows_of_several_runs_are_told_apart(tmp_path, runs):
    for name in runs:
        run = RunBuilder(tmp_path / name)
        run.baseline("convnext_tiny", key="convnext_tiny-0123456789ab")
        for index in range(2):
            values = {"alpha": 1e-3, "beta": 5e-4, "box_mass": 0.4}
            run.trial(f"convnext_tiny-000{index}", "convnext_tiny", baseline="convnext_tiny-0123456789ab", **values)
    together = read_runs([tmp_path / name for name in runs])
    pairs = pair_with_baselines(together)
    rows = best_trials(pairs, find_frontier(pairs, read_question(together.record)))
    lines = printed(rows).splitlines()[2:]
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert len({line.split()[1] for line in lines}) == len(rows) == 6


def grid(run, networks=("resnet18",), **values) -> tuple[Row, ...]:
    """Two seeds and two distances of each network, at the same alpha, beta and p."""
    for network in networks:
        for seed in (0, 1):
            baseline = f"{network}-0123456789a{seed}"
            run.baseline(network, key=baseline, seed=seed, **values)
            for index, distance in enumerate(("ssim", "correlation")):
                explanation = {"alpha": 0.1, "beta": 0.05, "p": 1.0, "distance": distance}
                run.trial(
                    f"{network}-000{2 * seed + index}",
                    network,
                    baseline=baseline,
                    seed=seed,
                    sampled={"seed": seed, "distance": distance},
                    settings={"explanation": explanation},
                    **values,
                )
    return rows_of(run)


def test_what_else_is_not_the_same_in_all_rows_is_told_and_nothing_that_is(new_run):
    rows = grid(new_run())
    heading, *lines, caption = [line.split(" 0.400 ")[0] for line in printed(rows).splitlines()[1:]]
    assert caption.strip() == "network: resnet18"
    assert " also " in heading
    assert [re.split(r"1\.00 ", line)[1].strip() for line in lines] == [
        *("seed 0", "seed 1"),
        *("seed 0, ssim", "seed 0, correlation", "seed 1, ssim", "seed 1, correlation"),
    ]
    one_seed = [row for row in rows if row.own["seed"] == 0]
    told = printed(one_seed)
    assert "seed" not in told
    assert re.findall(r"1\.00 (\S+) +0\.400", told) == ["-", "ssim", "correlation"]
    assert "also" not in printed(one_seed[:2])


def test_the_seed_is_told_within_100_columns_however_many_other_columns_there_are(new_run):
    rows = grid(new_run(), networks=("resnet18", "convnext_tiny"), box_mass=0.4, constant=0.25)
    lines = printed(rows).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert all(re.search(r"1\.00 seed [01]", line) for line in lines[2:])
    assert len({tuple(line.split()[1:3]) for line in lines[2:]}) == len(rows) == 12


@pytest.mark.parametrize("networks", [("convnet_small", "convnext_small"), ("swin_t", "swin_v2_t")])
def test_networks_of_like_names_are_told_apart(new_run, networks):
    rows = grid(new_run(), networks=networks, box_mass=0.4, constant=0.25)
    lines = printed(rows).splitlines()[2:]
    assert max(len(line.rstrip()) for line in lines) <= 100
    shown = {row.network: line.split()[2] for row, line in zip(rows, lines, strict=True)}
    assert len({*shown.values()}) == 2


def test_a_table_of_nothing_is_empty():
    assert best_table([], limit=10).row_count == 0


def test_numbers_are_written_short(mixed_run):
    text = printed(rows_of(mixed_run))
    assert "1.0e-3 2.5e-4 1.00 0.400 93.50 +0.50 0.790 0.400 0.500 0.81" in text
    assert "box" not in text


def test_constant_maps_have_a_column_where_there_are_any(new_run):
    run = new_run()
    run.baseline(constant=0.0)
    run.trial("t1", constant=0.0)
    assert "const" not in printed(rows_of(run))
    run.trial("t2", constant=0.125)
    table = printed(rows_of(run))
    assert "const" in table
    assert [line.split()[-3] for line in table.splitlines()[2:]] == ["0.000", "0.000", "0.125"]


def test_scientific_form_is_short():
    assert [short_scientific(value) for value in (0, 1e-6, 0.25, 3.0, 10.0)] == [
        "0",
        "1.0e-6",
        "2.5e-1",
        "3.0e0",
        "1.0e1",
    ]


def test_trials_csv_lists_every_trial_of_any_status(mixed_run):
    run, pairs, frontier = read_and_find(mixed_run)
    listed = list(
        csv.DictReader(io.StringIO(to_csv(list_trials([t.record for t in run.trials], pairs, frontier)).decode()))
    )
    assert [row["trial"] for row in listed] == ["r1", "r2", "t1", "t2", "t3", "t4", "t5", "t6", "t7"]
    statuses = [row["status"] for row in listed]
    assert statuses == ["finished", "failed", *["finished"] * 3, "collapsed", "diverged", "stopped", "running"]
    t1, t5 = listed[2], listed[6]
    assert (t1["feasible"], t1["on_frontier"], t1["tradeoff_points"], t1["sampled.lr"]) == (
        "true",
        "true",
        "0.5",
        "0.01",
    )
    assert (t1["validation.gini"], t1["test.accuracy_points"], t1["test.iauc"]) == ("0.5", "93.5", "0.81")
    assert (t5["feasible"], t5["reason"], t5["test.gini"], t5["tradeoff_points"]) == ("false", "made diverged", "", "")


def test_every_measured_column_of_trials_csv_is_explained(mixed_run):
    run, pairs, frontier = read_and_find(mixed_run)
    columns = list_trials([t.record for t in run.trials], pairs, frontier)[0]
    measured = [name for name in columns if name.startswith(("validation.", "test."))]
    assert [row["column"] for row in explain_columns()] == measured
    assert all(all(row.values()) for row in explain_columns())


def test_every_mean_over_the_test_split_has_a_column_of_its_name():
    images = {column.name: torch.zeros(2) for column in IMAGE_COLUMNS if column.name != "name"}
    explained = [row["column"] for row in explain_columns() if row["column"].startswith("test.")]
    assert sorted(explained) == sorted(f"test.{name}" for name in summarise(images))


def test_a_reason_with_commas_and_lines_stays_one_cell():
    assert list(csv.reader(io.StringIO(to_csv([{"reason": 'a, "b"\nc', "n": None}]).decode()))) == [
        ["reason", "n"],
        ['a, "b"\nc', ""],
    ]
