import statistics

import pytest

from gcc_search.analysis.pairing import pair_with_baselines, waiting_trials
from gcc_search.analysis.tradeoff import NetworkTradeoff, Spread, accuracy_tradeoffs, spread
from gcc_search.errors import ResultsError
from gcc_search.results.reader import read_run


def tradeoffs_of(builder) -> dict[str, NetworkTradeoff]:
    run = read_run(builder.folder)
    found = accuracy_tradeoffs(pair_with_baselines(run), [trial.record for trial in run.trials])
    return {item.network: item for item in found}


def test_tradeoff_is_baseline_minus_trained_test_accuracy(new_run):
    run = new_run()
    run.baseline(accuracy=94.0)
    run.trial("loses", accuracy=50.0, test_accuracy=93.25)
    run.trial("wins", accuracy=50.0, test_accuracy=94.5)
    item = tradeoffs_of(run)["resnet18"]
    assert dict(zip(item.finished_ids, item.finished, strict=True)) == {"loses": 0.75, "wins": -0.5}


def test_each_trial_is_compared_to_its_own_baseline(new_run):
    run = new_run()
    run.baseline(accuracy=90.0, key="small-images")
    run.baseline(accuracy=95.0, key="large-images")
    run.trial("a", accuracy=90.0, baseline="small-images")
    run.trial("b", accuracy=94.0, baseline="large-images")
    assert tradeoffs_of(run)["resnet18"].finished == (0.0, 1.0)


def test_collapsed_trials_are_kept_apart_and_others_counted(mixed_run):
    assert tradeoffs_of(mixed_run)["resnet18"] == NetworkTradeoff(
        network="resnet18",
        finished_ids=("t1", "t2", "t3"),
        finished=(0.5, 1.0, -5.0),
        collapsed_ids=("t4",),
        collapsed=(74.0,),
        collapsed_epochs_done=(2,),
        collapsed_epochs_asked=(None,),
        spread_finished=spread([0.5, 1.0, -5.0]),
        spread_all=spread([0.5, 1.0, -5.0, 74.0]),
        counts={"collapsed": 1, "diverged": 1, "finished": 3, "running": 1, "stopped": 1},
    )


def test_collapsed_trials_that_had_all_their_epochs_were_not_given_up(new_run):
    run = new_run()
    run.baseline()
    for name, status, epochs in (("a", "finished", 6), ("b", "collapsed", 2), ("c", "collapsed", 6)):
        run.trial(name, status=status, epochs=epochs, settings={"recipe": {"epochs": 6}})
    item = tradeoffs_of(run)["resnet18"]
    assert (item.collapsed_ids, item.collapsed_epochs_done, item.collapsed_epochs_asked) == (("b", "c"), (2, 6), (6, 6))
    assert item.given_up == ((2, 6),)


def test_a_network_without_a_finished_trial_has_no_spread(mixed_run):
    mixed_run.trial("c1", "convnext_tiny", status="diverged")
    item = tradeoffs_of(mixed_run)["convnext_tiny"]
    assert (item.finished, item.spread_finished, item.counts) == ((), None, {"diverged": 1})


def test_spread_of_a_small_case():
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]) == Spread(
        n=5,
        mean=22.0,
        sd=statistics.stdev([1, 2, 3, 4, 100]),
        whisker_low=1.0,
        quartile_1=2.0,
        median=3.0,
        quartile_3=4.0,
        whisker_high=4.0,
    )


def test_one_value_has_no_standard_deviation():
    one = spread([0.5])
    assert one is not None
    assert (one.n, one.mean, one.sd, one.whisker_low, one.whisker_high) == (1, 0.5, None, 0.5, 0.5)


def test_no_values_have_no_spread():
    assert spread([]) is None


def test_whiskers_never_end_inside_the_box():
    # The upper quartile is interpolated between 0 and 100, of which 100 lies out of reach.
    found = spread([0.0, 0.0, 0.0, 0.0, 100.0, 101.0, 1000.0])
    assert found is not None
    assert found.whisker_low <= found.quartile_1 <= found.quartile_3 <= found.whisker_high


def test_a_trial_whose_baseline_has_not_begun_is_left_out(new_run):
    run = new_run()
    run.trial("t1", baseline="resnet18-later")
    assert waiting_trials(read_run(run.folder)) == ("t1",)
    assert pair_with_baselines(read_run(run.folder)) == ()


def test_a_torn_baseline_is_called_torn(new_run):
    run = new_run()
    run.baseline()
    run.trial("t1")
    (run.folder / "baselines/resnet18-base/trial.json").write_text('{"id"')
    with pytest.raises(ResultsError, match=r"trials/t1: must have its baseline .* got a torn one"):
        tradeoffs_of(run)


def test_a_baseline_of_another_seed_is_refused(new_run):
    run = new_run()
    run.baseline()
    run.trial("t1", seed=3)
    with pytest.raises(ResultsError, match=r"t1: seed must be that of its baseline resnet18-base, 0, got 3"):
        tradeoffs_of(run)


def test_a_baseline_of_another_network_is_refused(new_run):
    run = new_run()
    run.baseline("resnet50")
    run.trial("t1", "resnet18", baseline="resnet50-base")
    with pytest.raises(ResultsError, match="t1: network must be that of its baseline"):
        tradeoffs_of(run)
