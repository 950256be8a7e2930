import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from gcc_search.analysis.bootstrap import mcnemar_p, percentile_interval, resampled_means
from gcc_search.analysis.comparison import Disagreement, comparison_rows
from gcc_search.analysis.comparison_table import (
    HEADINGS,
    KEY,
    comparison_table,
    line_cells,
    say_below,
    say_disagreement,
    say_seeds,
)
from gcc_search.analysis.findings import find
from gcc_search.analysis.measures import Line, corrected_consistency, label_of, means_of
from gcc_search.analysis.seeds import say_which
from gcc_search.analysis.table import to_csv
from gcc_search.results.reader import read_run
from gcc_search.results.schema import NOTED_LATER, SINCE_2
from gcc_search.results.writer import write_trial


def comparisons_of(builder):
    return find(read_run(builder.folder)).comparisons


def lines_of(builder) -> dict[str, Line]:
    (only,) = comparisons_of(builder)
    return {line.measure: line for line in only.lines}


def scored_images(seed, num_images=50):
    random = np.random.default_rng(seed)
    iauc = random.uniform(size=num_images)
    iauc[10:] = np.nan
    return {
        "consistency": random.uniform(0.5, 1.0, num_images),
        "chance": random.uniform(0.3, 0.7, num_images),
        "correct": random.uniform(size=num_images) < 0.8,
        "iauc": iauc,
        "own_consistency": np.linspace(0.2, 0.4 + seed / 10, num_images),
        "moved_correct": (np.arange(num_images) % (seed + 2) > 0).astype(float),
    }


@pytest.fixture
def compared(new_run):
    """A baseline and one trial over 50 images, insertion on ten of them; and the columns of both."""
    run, before, after = new_run(), scored_images(1), scored_images(2)
    run.baseline(images=before)
    run.trial("t1", images=after)
    return run, before, after


def test_chosen_is_the_feasible_trial_of_highest_validation_corrected_consistency(mixed_run):
    chosen = [(item.data, item.network, item.trial) for item in comparisons_of(mixed_run)]
    assert chosen == [("shapes", "resnet18", "t2"), ("shapes", "resnet50", "r1")]


def test_test_values_do_not_choose(new_run):
    run = new_run()
    run.baseline()
    run.trial("a", corrected=0.5, test_accuracy=1.0)
    run.trial("b", corrected=0.4, test_accuracy=99.0)
    assert [item.trial for item in comparisons_of(run)] == ["a"]


def test_of_equal_trials_the_first_is_chosen_and_an_unmeasured_one_never(new_run):
    run = new_run()
    run.baseline()
    for name, corrected in (("c", 0.4), ("b", 0.4), ("a", None)):
        run.trial(name, corrected=corrected)
    assert [item.trial for item in comparisons_of(run)] == ["b"]


def test_without_a_feasible_trial_there_is_no_comparison(new_run):
    run = new_run()
    run.baseline()
    run.trial("t1", accuracy=50.0)
    assert comparisons_of(run) == ()


def test_a_mean_is_given_with_error_difference_and_paired_interval(compared):
    run, before, after = compared
    difference = after["consistency"] - before["consistency"]
    low, high = percentile_interval(resampled_means(difference[:, None])[:, 0])
    assert lines_of(run)["consistency"] == Line(
        measure="consistency",
        unit="SSIM, -1 to 1",
        better="up",
        num_images=50,
        baseline=pytest.approx(before["consistency"].mean()),
        baseline_se=pytest.approx(stats.sem(before["consistency"])),
        trained=pytest.approx(after["consistency"].mean()),
        trained_se=pytest.approx(stats.sem(after["consistency"])),
        difference=pytest.approx(difference.mean()),
        low=pytest.approx(low),
        high=pytest.approx(high),
    )


def test_the_papers_consistency_is_of_maps_for_each_views_own_class_times_a_hundred(compared):
    run, before, after = compared
    line = lines_of(run)["consistency x 100"]
    own = [100 * images["own_consistency"].mean() for images in (before, after)]
    assert (line.baseline, line.trained) == pytest.approx(own)


def test_accuracy_on_second_views_is_told_in_points(compared):
    run, _, after = compared
    assert lines_of(run)["accuracy on t(x)"].trained == pytest.approx(100 * after["moved_correct"].mean())


def test_what_one_of_two_tables_has_not_yet_is_left_out(new_run):
    run, before = new_run(), scored_images(1)
    run.baseline(images=before | dict.fromkeys(SINCE_2, np.full(50, np.nan)))
    run.trial("t1", images=before)
    assert {"consistency x 100", "accuracy on t(x)"}.isdisjoint(lines_of(run))
    _, told = say_below(comparisons_of(run)[0])
    assert told.startswith(
        "accuracy on t(x) and own consistency x100: not measured yet by the gcc-search that scored one"
    )


def test_where_all_is_measured_mcnemars_test_stands_alone_below_the_table(compared):
    (item,) = comparisons_of(compared[0])
    assert say_below(item) == [say_disagreement(item.disagreement)]


def test_corrected_consistency_is_a_ratio_of_means_in_each_resample(compared):
    run, before, after = compared
    means = resampled_means(np.stack([side[name] for side in (before, after) for name in ("consistency", "chance")], 1))
    drawn = (means[:, 2] - means[:, 3]) / (1 - means[:, 3]) - (means[:, 0] - means[:, 1]) / (1 - means[:, 1])
    line = lines_of(run)["C*"]
    assert (line.low, line.high) == pytest.approx(percentile_interval(drawn))
    assert line.baseline == pytest.approx(
        (before["consistency"].mean() - before["chance"].mean()) / (1 - before["chance"].mean())
    )


def test_the_standard_error_of_corrected_consistency_is_that_of_the_bootstrap(compared):
    run, before, _ = compared
    means = resampled_means(np.stack([before["consistency"], before["chance"]], axis=1))
    drawn = corrected_consistency(means[:, 0], means[:, 1])
    assert lines_of(run)["C*"].baseline_se == pytest.approx(drawn.std(ddof=1), rel=0.05)


@pytest.fixture
def partly_constant(new_run):
    """As `compared`, but for a trial that has no map of every fifth image."""
    run, before, after = new_run(), scored_images(1), scored_images(2)
    after["degenerate"] = np.arange(50) % 5 == 0
    after["consistency"][after["degenerate"]] = 1.0
    run.baseline(images=before)
    run.trial("t1", images=after)
    return run, before, after


def test_what_a_constant_map_is_consistent_with_earns_nothing(partly_constant):
    run, before, after = partly_constant
    lines, chance = lines_of(run), after["chance"]
    earned = np.where(after["degenerate"], chance, after["consistency"])
    assert lines["consistency"].trained == pytest.approx(after["consistency"].mean())
    assert lines["C*"].trained == pytest.approx((earned.mean() - chance.mean()) / (1 - chance.mean()))
    means = resampled_means(np.stack([before["consistency"], before["chance"], earned, chance], axis=1))
    drawn = corrected_consistency(means[:, 2], means[:, 3])
    interval = percentile_interval(drawn - corrected_consistency(means[:, 0], means[:, 1]))
    assert (lines["C*"].low, lines["C*"].high) == pytest.approx(interval)
    assert lines["C*"].trained_se == pytest.approx(drawn.std(ddof=1), rel=0.05)


def test_means_of_one_network_have_the_same_corrected_consistency(partly_constant):
    run, _, after = partly_constant
    unknown = dict.fromkeys(("dauc", "gini", "box_mass", *SINCE_2), np.full(50, np.nan))
    (found,) = (mean for mean in means_of(unknown | after) if mean.measure == "C*")
    line = lines_of(run)["C*"]
    assert (found.value, found.standard_error) == (pytest.approx(line.trained), pytest.approx(line.trained_se))


def test_constant_maps_are_told_beside_corrected_consistency(partly_constant):
    run, _, after = partly_constant
    line = lines_of(run)["constant maps"]
    assert (line.baseline, line.trained, line.verdict) == (0, pytest.approx(0.2), "apart")
    unknown = dict.fromkeys(("dauc", "gini", "box_mass", *SINCE_2), np.full(50, np.nan))
    assert {mean.measure: mean.value for mean in means_of(unknown | after)}["constant maps"] == pytest.approx(0.2)
    nothing = {"degenerate": np.zeros(50)}
    assert "constant maps" not in {mean.measure for mean in means_of(unknown | after | nothing)}


def test_without_images_constant_maps_are_told_from_the_record(new_run):
    run = new_run()
    run.baseline(constant=0.0)
    run.trial("t1", constant=0.2)
    (run.folder / "trials/t1/images.parquet").unlink()
    assert lines_of(run)["constant maps"].difference == 0.2


def test_where_no_map_is_constant_there_is_no_line_of_it(compared):
    assert "constant maps" not in lines_of(compared[0])


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_over_seeds_constant_maps_are_told_where_there_are_any(new_run, constant):
    run = new_run()
    for seed in range(2):
        run.baseline(key=f"base-{seed}", seed=seed, constant=0.0)
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, constant=constant)
    (item,) = comparisons_of(run)
    assert ("constant maps" in {spread.measure for spread in item.seeds}) == (constant > 0)


def test_maps_that_ignore_the_image_have_no_corrected_consistency():
    found = corrected_consistency(np.array([1.0, 0.9]), np.array([1.0, 0.8]))
    np.testing.assert_allclose(found, [0.0, 0.5])


def test_a_measure_is_compared_over_the_images_that_both_have(compared):
    run, before, after = compared
    line = lines_of(run)["insertion AUC"]
    assert line.num_images == 10
    assert line.difference == pytest.approx(after["iauc"][:10].mean() - before["iauc"][:10].mean())


def test_a_measure_that_no_image_has_is_left_out(compared):
    assert "box mass" not in lines_of(compared[0])


def test_images_are_paired_by_their_place_in_the_test_split(new_run):
    run, images = new_run(), scored_images(1)
    order = np.random.default_rng(0).permutation(50)
    run.baseline(images=images)
    run.trial("t1", images={name: column[order] for name, column in images.items()} | {"index": order})
    line = lines_of(run)["consistency"]
    assert (line.difference, line.low, line.high) == pytest.approx((0, 0, 0), abs=1e-15)


def test_accuracy_is_tested_on_the_images_they_disagree_on(new_run):
    run = new_run()
    run.baseline(images={"correct": np.array([1, 1, 1, 0, 0, 1], dtype=bool)})
    run.trial("t1", images={"correct": np.array([0, 1, 1, 1, 1, 0], dtype=bool)})
    (item,) = comparisons_of(run)
    assert item.disagreement == Disagreement(only_baseline=2, only_trained=2, p_value=1.0)
    assert (item.lines[0].baseline, item.lines[0].trained) == pytest.approx((400 / 6, 400 / 6))


@pytest.mark.parametrize(("won", "is_marked"), [(4, False), (5, False), (6, True)])
@pytest.mark.parametrize(("measure", "column"), [("top-1 accuracy", "correct"), ("accuracy on t(x)", "moved_correct")])
def test_accuracy_is_marked_where_mcnemars_test_says_so_whatever_the_interval_does(
    new_run, won, is_marked, measure, column
):
    run, right = new_run(), np.ones(300, dtype=bool)
    run.baseline(images={column: np.arange(300) >= won})
    run.trial("t1", images={column: right})
    (item,) = comparisons_of(run)
    line = {line.measure: line for line in item.lines}[measure]
    assert line.low > 0
    assert line.mcnemar_p == mcnemar_p(0, won)
    assert ("*" in line_cells(line)[HEADINGS.index("difference")]) == is_marked
    if column == "correct":
        assert item.disagreement.p_value == line.mcnemar_p


def test_without_images_there_are_means_from_the_record_and_no_errors(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    run.trial("t1", accuracy=93.5)
    (run.folder / "trials/t1/images.parquet").unlink()
    (item,) = comparisons_of(run)
    assert item.disagreement is None
    assert item.lines[0] == Line(
        measure="top-1 accuracy", unit="points", better="up", baseline=94.0, trained=93.5, difference=-0.5
    )
    assert "means only" in say_disagreement(item.disagreement)


@pytest.mark.parametrize("num_images", [19, 20])
def test_a_difference_is_marked_where_there_are_images_enough_to_say(new_run, num_images):
    run, chance = new_run(), np.full(num_images, 0.5)
    run.baseline(images={"consistency": chance + 0.3, "chance": chance})
    run.trial("t1", images={"consistency": chance + 0.4, "chance": chance})
    line = lines_of(run)["C*"]
    is_enough = num_images >= 20
    assert line.verdict == ("apart" if is_enough else "too few images")
    assert ("*" in line_cells(line)[HEADINGS.index("difference")]) == is_enough


def test_the_key_fits_and_says_what_rows_beside_each_other_are_worth():
    assert all(len(line) <= 100 for line in KEY.splitlines())
    told = KEY.replace("\n", " ")
    assert "under 20: too few to say, no *" in told
    assert "each row stands on its own: where nothing differs, three tables in ten or so have a *" in told


def test_over_seeds_the_mean_has_students_interval(new_run):
    run, gains = new_run(), [0.10, 0.16, 0.13]
    for seed, gain in enumerate(gains):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, corrected=0.3 + gain, alpha=2.0)
    run.trial("other", baseline="base-0", corrected=0.31, alpha=1.0)
    spread = {spread.measure: spread for spread in comparisons_of(run)[0].seeds}["C*"]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(gains), scale=stats.sem(gains))
    assert spread.seeds == (0, 1, 2)
    assert (spread.mean, spread.low, spread.high) == pytest.approx((np.mean(gains), low, high))
    assert say_seeds(spread).startswith("C*: +0.130 (+0.055 to +0.205) over seeds 0, 1, 2")


def test_a_seed_under_which_the_trial_collapsed_is_named(new_run):
    run = new_run()
    for seed in (0, 1, 2):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        status = "collapsed" if seed == 1 else "finished"
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, corrected=0.4, alpha=2.0, status=status)
    spread = {spread.measure: spread for spread in comparisons_of(run)[0].seeds}["C*"]
    assert say_seeds(spread).endswith(" over seeds 0, 1, 2 (collapsed: 1)")


UNSCORED = {
    "diverged": "diverged: 2, 4",
    "failed": "failed: 2, 4",
    "stopped": "stopped early: 2, 4",
    "interrupted": "interrupted: 2, 4",
    "running": "running: 2, 4",
}


@pytest.mark.parametrize(("status", "told"), UNSCORED.items())
def test_every_line_over_seeds_names_those_without_a_value(new_run, status, told):
    run = new_run()
    for seed in range(5):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        # A trial that fails early has seen no images yet.
        values = {"status": status, "fingerprint": ""} if seed in (2, 4) else {}
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, **values)
    run.trial("other", baseline="base-0", alpha=3.0, status=status)
    (item,) = comparisons_of(run)
    assert {spread.seeds for spread in item.seeds} == {(0, 1, 3)}
    assert all(say_seeds(spread).endswith(f" over seeds 0, 1, 3 ({told})") for spread in item.seeds)
    rows = comparison_rows([item])
    assert [row["seeds_without_value"] for row in rows if row["measure"] == "C*"] == [told]


def test_a_seed_that_collapsed_or_finished_unmeasured_is_named_where_it_has_no_value(new_run):
    run = new_run()
    for seed in range(4):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        status = "collapsed" if seed == 2 else "finished"
        record = run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, status=status)
        if seed > 1:
            write_trial(run.folder / "trials" / record.id, replace(record, test=record.test | {"iauc": None}))
    told = {spread.measure: say_which(spread) for spread in comparisons_of(run)[0].seeds}
    assert told["C*"] == "seeds 0, 1, 2, 3 (collapsed: 2)"
    assert told["insertion AUC"] == "seeds 0, 1 (collapsed, not measured: 2; not measured: 3)"


def test_a_seed_whose_baseline_has_not_finished_is_named(new_run):
    run = new_run()
    for seed in range(3):
        status = "running" if seed == 2 else "finished"
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3, status=status)
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0)
    assert {say_which(spread) for spread in comparisons_of(run)[0].seeds} == {"seeds 0, 1 (without its baseline: 2)"}


def test_a_single_seed_with_a_value_has_no_interval_and_names_the_others(new_run):
    run = new_run()
    for seed in range(2):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        status = "diverged" if seed else "finished"
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, corrected=0.4, status=status)
    (item,) = comparisons_of(run)
    spread = {spread.measure: spread for spread in item.seeds}["C*"]
    assert say_seeds(spread) == "C*: +0.100 over seed 0 (diverged: 1)"
    (row,) = (row for row in comparison_rows([item]) if row["measure"] == "C*")
    assert [row[f"seeds_{name}"] for name in ("low", "high", "interval")] == [None] * 3


def test_a_seed_that_diverged_is_named_though_a_twin_of_it_has_a_value(new_run):
    """Of runs read together; GPUs of two kinds round otherwise."""
    run = new_run()
    for seed in range(2):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0)
    for status in ("diverged", "failed"):
        run.trial(f"twin-{status}", baseline="base-1", seed=1, alpha=2.0, status=status)
    assert {say_which(spread) for spread in comparisons_of(run)[0].seeds} == {"seeds 0, 1 (diverged: 1)"}


def test_over_seeds_images_may_lie_elsewhere_and_each_seed_has_a_start_of_its_own(new_run):
    run = new_run()
    for seed, images in enumerate(("ours", "ours", "others")):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3, fingerprint=images)
        settings = {"data": {"name": "shapes", "root": f"/disk-{seed}"}, "weights": f"start:resnet18-{seed}"}
        values = {"corrected": 0.5 - seed / 10, "settings": settings, "fingerprint": images}
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, **values)
    (item,) = comparisons_of(run)
    assert {spread.seeds for spread in item.seeds} == {(0, 1)}


def test_over_seeds_an_older_record_is_of_what_was_not_noted_then(new_run):
    run, asked = new_run(), {"alpha": 2.0, "beta": 0.0, "p": 1.0, "distance": "ssim"}
    for seed, later in enumerate(({}, NOTED_LATER, {"photometric": 0.5})):
        run.baseline(key=f"base-{seed}", seed=seed)
        settings = {"explanation": asked | later}
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, corrected=0.5 - seed / 10, settings=settings)
    (item,) = comparisons_of(run)
    assert {spread.seeds for spread in item.seeds} == {(0, 1)}


def test_a_single_seed_has_no_spread(mixed_run):
    assert [item.seeds for item in comparisons_of(mixed_run)] == [(), ()]


def test_the_table_has_a_row_per_network_and_measure(compared):
    run, *_ = compared
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison_rows(comparisons_of(run))).decode())))
    assert [row["measure"] for row in rows] == list(lines_of(run))
    first, second = rows[:2]
    assert (first["network"], first["data"], first["trial"], first["unit"]) == ("resnet18", "shapes", "t1", "points")
    assert math.isclose(float(first["difference"]), float(first["trained"]) - float(first["baseline"]), abs_tol=1e-9)
    assert float(first["mcnemar_p"]) == mcnemar_p(
        int(first["only_baseline_correct"]), int(first["only_trained_correct"])
    )
    assert (second["measure"], second["only_baseline_correct"], second["num_seeds"]) == ("accuracy on t(x)", "", "")
    assert [row["measure"] for row in rows if row["mcnemar_p"]] == ["top-1 accuracy", "accuracy on t(x)"]


def test_the_printed_table_is_markdown_within_100_columns(compared):
    console = Console(file=io.StringIO(), width=100)
    console.print(comparison_table(comparisons_of(compared[0])[0]))
    lines = [line for line in console.file.getvalue().splitlines() if line.strip()]
    assert all(line.startswith("|") and line.rstrip().endswith("|") for line in lines)
    assert lines[1].replace("-", "") == "|||||||"
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize(
    ("measure", "unit", "cells"),
    [
        ("gini", "", ("0.500 ± 0.010", "0.750 ± 0.020", "+0.250*", "+0.125 to +0.375")),
        ("consistency x 100", "", ("0.50 ± 0.01", "0.75 ± 0.02", "+0.25*", "+0.12 to +0.38")),
        ("top-1 accuracy", "points", ("0.50 ± 0.01", "0.75 ± 0.02", "+0.25*", "+0.12 to +0.38")),
    ],
)
def test_each_value_stands_with_its_own_error_and_hundreds_with_two_digits(measure, unit, cells):
    values = {"baseline": 0.5, "baseline_se": 0.01, "trained": 0.75, "trained_se": 0.02, "difference": 0.25}
    line = Line(measure=measure, unit=unit, better="up", num_images=200, low=0.125, high=0.375, **values)
    assert line_cells(line) == (f"{label_of(measure)} ↑", *cells, "200")


def test_consistency_for_own_classes_is_called_so_and_keeps_its_name_in_the_files(compared):
    (item,) = comparisons_of(compared[0])
    assert [line_cells(line)[0] for line in item.lines][2:4] == ["own consistency x100 ↑", "consistency ↑"]
    assert [row["measure"] for row in comparison_rows([item])][2:4] == ["consistency x 100", "consistency"]
    assert "own consistency: each map for the class predicted on its own view, as in the paper" in KEY.replace(
        "\n", " "
    )


def test_mcnemars_line_tells_the_two_apart():
    told = say_disagreement(Disagreement(only_baseline=2, only_trained=7, p_value=0.18))
    assert told == ("accuracy: right where the other is wrong: baseline 2 images, ours 7; McNemar's exact p = 0.18")
