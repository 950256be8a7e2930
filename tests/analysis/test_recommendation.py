"""`gcc-search recommend`: which trial, why, and what is said where none qualifies."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from gcc_search.analysis.measures import FEWEST_IMAGES
from gcc_search.analysis.recommendation import Candidate, Excluded, Wish, recommend
from gcc_search.analysis.recommendation_text import print_recommendation, say_settings, say_why
from gcc_search.analysis.several import read_runs
from gcc_search.errors import ResultsError
from gcc_search.results.reader import read_run
from gcc_search.results.writer import write_trial
from tests.analysis.conftest import RunBuilder


def found_in(builder: RunBuilder, **wish):
    return recommend(read_runs([builder.folder]), Wish(**wish))


def images(*, consistency: float, num: int = 200) -> dict[str, np.ndarray]:
    """Images whose consistency spreads by 0.02 around a mean, against a chance level of 0.5."""
    spread = np.linspace(-0.02, 0.02, num)
    return {"consistency": consistency + spread, "chance": np.full(num, 0.5)}


def test_the_highest_corrected_consistency_on_the_validation_split_wins(mixed_run):
    found = found_in(mixed_run)
    assert found.trial.record.id == "t2"
    assert found.chosen == Candidate(trial="t2", corrected_consistency=0.50, drop_points=1.0)
    assert found.runner_up == Candidate(trial="t1", corrected_consistency=0.40, drop_points=0.5)


def test_every_other_trial_is_left_out_for_a_reason(mixed_run):
    found = found_in(mixed_run)
    reasons = ("collapsed", "diverged", "stopped", "running", "failed")
    assert found.considered == 9
    assert {item.reason: item.count for item in found.excluded} == dict.fromkeys(reasons, 1) | {
        "breaking accuracy >= baseline - 1.0": 1
    }


def test_a_limit_on_the_accuracy_lost_is_kept_to_the_point(mixed_run):
    assert found_in(mixed_run, max_accuracy_drop=1.0).trial.record.id == "t2"
    found = found_in(mixed_run, max_accuracy_drop=0.5)
    assert found.trial.record.id == "t1"
    assert Excluded(count=1, reason="losing more than 0.5 points") in found.excluded


def test_a_drop_that_is_permitted_to_the_last_image_is_no_larger_by_rounding(new_run):
    run = new_run(constraints=())
    run.baseline(accuracy=100 * (7 / 100))
    run.trial("t1", accuracy=100 * (6 / 100))
    assert found_in(run, max_accuracy_drop=1.0).chosen.drop_points == 1.0


def test_only_the_asked_network_is_looked_at(mixed_run):
    found = found_in(mixed_run, network="resnet50")
    assert (found.trial.record.id, found.considered, found.runner_up) == ("r1", 2, None)


def test_the_test_split_decides_nothing(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    run.trial("better-on-test", corrected=0.30, test_accuracy=99.0, images=images(consistency=0.99))
    run.trial("better-on-validation", corrected=0.31, test_accuracy=10.0, images=images(consistency=0.51))
    assert found_in(run).trial.record.id == "better-on-validation"


@pytest.mark.parametrize(
    ("consistency", "verdict", "beyond"),
    [
        (0.9, "a gain beyond the noise of these test images; another seed may differ by more", True),
        (0.8, "within the noise of these test images: the interval holds 0", False),
        (0.7, "a loss beyond the noise of these test images; another seed may differ by more", False),
    ],
)
def test_a_gain_is_told_from_noise(new_run, consistency, verdict, beyond):
    run = new_run()
    run.baseline(images=images(consistency=0.8))
    run.trial("t1", corrected=0.5, images=images(consistency=consistency))
    found = found_in(run)
    assert found.gain_is_beyond_noise is beyond
    assert say_why(found, Wish())[-1].endswith(verdict)


@pytest.mark.parametrize(
    ("gains", "told", "beyond"),
    [
        ((0.10, 0.16, 0.13), "mean over 3 seeds +0.130, 95 % interval +0.055 to +0.205: a gain beyond", True),
        ((0.10, -0.05, 0.13), "mean over 3 seeds +0.060, 95 % interval -0.180 to +0.300: within", False),
        ((-0.10, -0.16, -0.13), "mean over 3 seeds -0.130, 95 % interval -0.205 to -0.055: a loss beyond", False),
    ],
)
def test_where_there_are_several_seeds_their_noise_decides(new_run, gains, told, beyond):
    """The images alone tell each of these trials apart from its baseline."""
    run = new_run()
    for seed, gain in enumerate(gains):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3, images=images(consistency=0.8))
        values = {"corrected": 0.3 + gain, "images": images(consistency=0.9)}
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, **values)
    found = found_in(run)
    assert found.gain_is_beyond_noise is beyond
    assert say_why(found, Wish())[-1].startswith(f"{told} the noise of seeds")


def train_under_seeds(run: RunBuilder, *statuses: str) -> None:
    """The same settings once for each status: where they come to something, gains in C* that no noise explains."""
    for seed, status in enumerate(statuses):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3, images=images(consistency=0.8))
        values = {"corrected": 0.5 + 0.005 * seed, "images": images(consistency=0.9)}
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, status=status, **values)


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        (
            ("finished",) * 3 + ("diverged",) * 2,
            "mean over 3 seeds (diverged: 3, 4) +0.205, 95 % interval +0.193 to +0.217",
        ),
        (("finished", "diverged"), "mean over 1 seed (diverged: 1) +0.200"),
        (
            ("finished",) * 3 + ("stopped",) * 2,
            "mean over 3 seeds (stopped early: 3, 4) +0.205, 95 % interval +0.193 to +0.217",
        ),
    ],
)
def test_settings_that_diverge_or_are_stopped_under_a_seed_have_no_gain_beyond_noise(new_run, statuses, told):
    run = new_run()
    train_under_seeds(run, *statuses)
    found = found_in(run)
    assert found.gain_is_beyond_noise is False
    assert (
        say_why(found, Wish())[-1] == f"{told}: no verdict, as these settings failed or were given up under other seeds"
    )


def test_settings_that_collapse_unmeasured_under_a_seed_have_no_gain_beyond_noise(new_run):
    run = new_run()
    train_under_seeds(run, "finished", "finished", "collapsed")
    record = read_run(run.folder).trials[2].record
    write_trial(run.folder / "trials/t2", replace(record, test=record.test | {"corrected_consistency": None}))
    found = found_in(run)
    assert found.gain_is_beyond_noise is False
    assert say_why(found, Wish())[-1].startswith("mean over 2 seeds (collapsed, not measured: 2) ")


def test_seeds_that_failed_by_a_machine_are_named_beside_the_verdict(new_run):
    run = new_run()
    train_under_seeds(run, "finished", "finished", "finished", "failed")
    found = found_in(run)
    assert found.gain_is_beyond_noise is True
    told = say_why(found, Wish())[-1]
    assert told.startswith("mean over 3 seeds (failed: 3) +0.205, ")
    assert told.endswith(": a gain beyond the noise of seeds")


def test_where_no_other_seed_has_a_value_the_images_decide_and_the_seeds_are_named(new_run):
    run = new_run()
    train_under_seeds(run, "finished", "failed")
    found = found_in(run)
    assert found.gain_is_beyond_noise is True
    *_, verdict, told = say_why(found, Wish())
    assert verdict.startswith("a gain beyond the noise of these test images")
    assert told == "no other seed has a value (failed: 1)"


@pytest.mark.parametrize("status", ["finished", "collapsed", "diverged"])
def test_settings_that_a_constraint_or_a_failure_left_out_were_chosen_among_as_well(new_run, status):
    """The accuracy of those that finished breaks the constraint."""
    run = new_run()
    train_under_seeds(run, "finished", "finished", "finished")
    run.trial("other", baseline="base-0", alpha=3.0, accuracy=90.0, corrected=0.6, status=status)
    found = found_in(run)
    assert found.was_chosen_by_seed
    assert say_why(found, Wish())[-1].endswith("; one of these seeds chose the settings: --confirm trains others")


def test_a_seed_of_these_settings_that_never_began_was_no_choice_of_settings(new_run):
    run = new_run()
    train_under_seeds(run, "finished", "finished")
    run.trial("t2", seed=2, alpha=2.0, status="failed", fingerprint="")
    assert not found_in(run).was_chosen_by_seed


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_mean_with_the_seed_that_chose_among_settings_is_said_to_hold_it(new_run, is_alone):
    run = new_run()
    for seed, gain in enumerate((0.10, 0.16, 0.13)):
        run.baseline(key=f"base-{seed}", seed=seed, corrected=0.3)
        run.trial(f"t{seed}", baseline=f"base-{seed}", seed=seed, alpha=2.0, corrected=0.3 + gain)
    if not is_alone:
        run.trial("other", baseline="base-0", seed=0, alpha=3.0, corrected=0.35)
    told = say_why(found_in(run), Wish())[-1]
    assert told.endswith("of seeds; one of these seeds chose the settings: --confirm trains others") != is_alone
    assert told.endswith("a gain beyond the noise of seeds") == is_alone


def test_of_too_few_images_nothing_is_said(new_run):
    run = new_run()
    run.baseline(images=images(consistency=0.8, num=FEWEST_IMAGES - 1))
    run.trial("t1", corrected=0.5, images=images(consistency=0.9, num=FEWEST_IMAGES - 1))
    found = found_in(run)
    assert found.gain_is_beyond_noise is None
    assert say_why(found, Wish())[-2:] == (
        "test split: C* +0.200 against the baseline, 95 % interval +0.200 to +0.200 over its images",
        "too few images to say",
    )


def test_without_images_there_is_no_verdict(new_run):
    run = new_run()
    run.baseline()
    run.trial("t1", corrected=0.5)
    (run.folder / "trials/t1/images.parquet").unlink()
    found = found_in(run)
    assert found.gain_is_beyond_noise is None
    assert say_why(found, Wish())[-1].endswith("no whole images.parquet of one of the two, so no interval")


def test_why_is_six_lines(mixed_run):
    wish = Wish(max_accuracy_drop=1.0)
    first, second, third, fourth, _, _ = say_why(found_in(mixed_run, max_accuracy_drop=1.0), wish)
    limits = "constraints kept, at most 1 points lost"
    assert first == f"C* 0.500 on the validation split, the highest of 3 that qualify ({limits})"
    assert second == "accuracy lost there: +1.00 points"
    assert third.startswith("trials left out of 9: 1 ")
    assert fourth == "runner-up: trials/t1, C* 0.400, 0.100 behind, +0.50 points lost"


def test_settings_are_one_line_with_whatever_else_was_sampled(mixed_run):
    expected = "resnet18 on shapes, seed 0: alpha 1.0e-3, beta 2.5e-4, p 1.00, distance ssim, lr 0.01"
    assert say_settings(found_in(mixed_run, max_accuracy_drop=0.5)) == expected


def test_the_printed_table_fits_and_the_directory_comes_first(mixed_run):
    console = Console(file=io.StringIO(), width=100)
    print_recommendation(found_in(mixed_run), Wish(), console)
    printed = console.file.getvalue()
    assert printed.startswith(f"use {mixed_run.folder}/trials/t2\n")
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert any("top-1 accuracy ↑" in line for line in table)
    assert all(len(line) <= 100 for line in table)


def test_files_that_were_refused_are_named(mixed_run):
    """The best trial's record is torn, and so are the images of the next one."""
    (mixed_run.folder / "trials/t2/trial.json").write_text("{")
    table = mixed_run.folder / "trials/t1/images.parquet"
    table.write_bytes(table.read_bytes()[:-5])
    console = Console(file=io.StringIO(), width=100)
    print_recommendation(found_in(mixed_run), Wish(), console)
    *_, told, first, second = console.file.getvalue().splitlines()
    assert told == "refused files: 2"
    assert first.startswith(f"  {mixed_run.folder}/trials/t2/trial.json: must be whole JSON, got a torn file")
    assert second.startswith(f"  {table}: must be whole Parquet, got a torn or changed file")


def test_a_refused_table_of_the_baseline_is_named(mixed_run):
    table = mixed_run.folder / "baselines/resnet18-base/images.parquet"
    table.write_bytes(table.read_bytes()[:-5])
    (told,) = found_in(mixed_run).problems
    assert told.startswith(f"{table}: must be whole Parquet, got a torn or changed file")


def test_of_equals_the_first_by_name_is_recommended(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    for name, accuracy in (("t2", 93.9), ("t1", 93.5), ("t3", 93.2)):
        run.trial(name, accuracy=accuracy, corrected=0.4)
    found = found_in(run)
    assert (found.trial.record.id, found.runner_up.trial) == ("t1", "t2")


def test_where_none_qualifies_the_smallest_drop_is_told(mixed_run):
    with pytest.raises(ResultsError) as caught:
        found_in(mixed_run, max_accuracy_drop=0.1, network="resnet18")
    message = str(caught.value)
    assert message.startswith(f"{mixed_run.folder}: must have a trial that qualifies, got none (2 losing more than 0.1")
    assert (
        "; the smallest drop is 0.50 points, of t1 (validation split); raise --max-accuracy-drop, or search" in message
    )


def test_nobody_is_told_to_raise_a_limit_that_left_nothing_out(new_run):
    run = new_run(constraints=["accuracy >= baseline + 50"])
    run.baseline()
    run.trial("t1")
    with pytest.raises(ResultsError, match=r"\(validation split\); search with other ranges or constraints$"):
        found_in(run)


@pytest.mark.parametrize(
    ("status", "way_out"),
    [
        ("running", "wait for the search, or go on with it: gcc-search resume RUN"),
        ("interrupted", "wait for the search, or go on with it: gcc-search resume RUN"),
        ("collapsed", "search with lower alpha, beta or lr, or with more epochs"),
        ("failed", "t1 failed: made failed; where that is mended, remove its folder, then: gcc-search resume RUN"),
    ],
)
def test_a_search_without_a_finished_trial_says_what_helps(new_run, status, way_out):
    run = new_run()
    run.baseline()
    run.trial("t1", status=status)
    with pytest.raises(ResultsError, match=re.escape(f"got none (1 {status}); {way_out}")):
        found_in(run)


def test_trials_that_wait_for_their_baseline_say_to_wait(new_run):
    run = new_run()
    run.baseline(status="running")
    run.trial("t1")
    with pytest.raises(ResultsError, match=re.escape("got none (1 waiting for the baseline); wait for the search")):
        found_in(run)


def test_trials_beside_a_baseline_that_diverged_do_not_say_to_wait(new_run):
    run = new_run()
    run.baseline(status="diverged")
    run.trial("t1")
    told = "got none (1 beside a baseline that diverged); resnet18-base diverged: made diverged; change its recipe"
    with pytest.raises(ResultsError, match=re.escape(told)):
        found_in(run)


def test_a_network_that_was_not_trained_is_one_line(mixed_run):
    with pytest.raises(ResultsError, match=r"--network: must be one of .*, got resnet19; did you mean resnet18\?"):
        found_in(mixed_run, network="resnet19")


def test_trials_of_several_runs_compete(new_run, tmp_path):
    for name, corrected in (("a", 0.3), ("b", 0.4)):
        run = RunBuilder(tmp_path / "runs" / name)
        run.baseline()
        run.trial("t1", corrected=corrected)
    found = recommend(read_runs([tmp_path / "runs/a", tmp_path / "runs/b"]), Wish())
    assert (found.trial.folder, found.runner_up.trial) == (tmp_path / "runs/b/trials/t1", "a/t1")
