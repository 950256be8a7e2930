"""What the sampler is asked and told."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sqlalchemy.exc import SQLAlchemyError

from gcc_search.errors import ResultsError, SpaceError
from gcc_search.patience import UNHEARD
from gcc_search.results.schema import TrialRecord
from gcc_search.search.domains import to_distribution
from gcc_search.search.study import (
    UNTRAINED_VIOLATION,
    NetworkStudy,
    list_points,
    objective_values,
    trials_per_network,
    violations,
)
from gcc_search.search.study_copy import check_storage, open_own_storage, open_storage, refusals_told
from gcc_search.vocabulary import Parameter
from tests.search.conftest import make_space


def make_record(trial_id="convnet_small-0000", status="finished", **validation) -> TrialRecord:
    values = {"accuracy_points": 80.0, "corrected_consistency": 0.5, "gini": 0.4} | validation
    unimportant = {"reason": None, "settings": {}, "node": "", "device": "cpu", "started": "", "updated": ""}
    return TrialRecord(
        id=trial_id,
        role="trial",
        status=status,
        network="convnet_small",
        device_seconds=1.0,
        epochs_done=2,
        validation=values,
        data_fingerprint="",
        versions={},
        **unimportant,
    )


def make_study(space, cap=20) -> NetworkStudy:
    return NetworkStudy(space, "convnet_small", optuna.storages.InMemoryStorage(), cap=cap, tell=UNHEARD.tell)


def test_a_log_range_is_sampled_in_its_logarithm():
    parameter = Parameter(distribution="log_uniform_values", min=0.001, max=10)
    assert to_distribution(parameter) == FloatDistribution(0.001, 10, log=True)


def test_values_are_categories_and_whole_ranges_whole():
    assert to_distribution(Parameter(values=("ssim", "correlation"))) == CategoricalDistribution(
        ("ssim", "correlation")
    )
    assert to_distribution(Parameter(distribution="int_uniform", min=1, max=5)) == IntDistribution(1, 5)
    assert to_distribution(Parameter(value=3.0)) == CategoricalDistribution((3.0,))


def test_the_cap_is_dealt_out_over_the_networks_in_turn():
    space = make_space(networks=["convnet_small", "resnet18", "resnet50"], run_cap=8)
    assert trials_per_network(space) == {"convnet_small": 3, "resnet18": 3, "resnet50": 2}


def test_a_grid_is_all_combinations():
    space = make_space(method="grid", run_cap=None, parameters={"alpha": {"values": [0, 1]}, "p": {"values": [1, 2]}})
    assert list_points(space) == [{"alpha": a, "p": p} for a in (0, 1) for p in (1, 2)]
    assert trials_per_network(space) == {"convnet_small": 4}


def test_a_value_that_was_not_measured_is_the_worst_and_breaks_its_constraint():
    space = make_space(constraints=["accuracy >= baseline - 1", "gini >= 0.2"])
    assert objective_values(space, make_record(corrected_consistency=None)) == [-1, 0.4]
    record = make_record(gini=None)
    assert violations(space, record, make_record())["gini >= 0.2"] == UNTRAINED_VIOLATION
    unknown = violations(space, make_record(), None)
    assert unknown == {"trained": 0.0, "accuracy >= baseline - 1": UNTRAINED_VIOLATION, "gini >= 0.2": -0.2}


def test_a_trial_that_has_ended_is_known_to_the_sampler():
    study = make_study(make_space())
    trial_id, _ = study.ask()
    assert study._history.num_told == 0
    study.tell(make_record(trial_id), make_record())
    assert study._history.num_told == 1


def test_points_are_tried_first_and_the_rest_of_them_sampled():
    study = make_study(make_space(points=[{"alpha": 0.5, "beta": 0.25}, {"alpha": 2.0}]))
    assert study.ask() == ("convnet_small-0000", {"alpha": 0.5, "beta": 0.25})
    trial_id, sampled = study.ask()
    assert (trial_id, sampled["alpha"]) == ("convnet_small-0001", 2.0)
    assert 0.01 <= sampled["beta"] <= 1


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_seeds_are_dealt_out_in_turn_however_lucky_one_of_them_is(method):
    parameters = make_space().model_dump(exclude_none=True)["parameters"] | {"seed": {"values": [3, 1, 2]}}
    study = make_study(make_space(method=method, parameters=parameters, points=[{"alpha": 0.5}, {"seed": 2}]), cap=30)
    asked = []
    for _ in range(30):
        trial_id, sampled = study.ask()
        study.tell(make_record(trial_id, gini=0.9 if sampled["seed"] == 2 else 0.1), make_record())
        asked.append(sampled)
    assert [sampled["seed"] for sampled in asked] == [3, 2, 2, *[3, 1, 2] * 9]
    assert asked[0]["alpha"] == 0.5
    assert len({sampled["alpha"] for sampled in asked}) == 30


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_equal_seeds_ask_for_equal_settings_whatever_was_asked_in_between(method):
    def ask_all(study, interrupt):
        asked = []
        for number in range(8):
            trial_id, sampled = study.ask()
            if interrupt:
                # A restarted search makes its samplers anew.
                study._study.sampler = optuna.samplers.RandomSampler(seed=number)
            gini = 0.3 + 0.01 * sampled["beta"]
            study.tell(make_record(trial_id, corrected_consistency=sampled["alpha"] / 10, gini=gini), make_record())
            asked.append(sampled)
        return asked

    space = make_space(method=method, run_cap=8)
    assert ask_all(make_study(space, 8), interrupt=False) == ask_all(make_study(space, 8), interrupt=True)


def test_another_seed_asks_for_other_settings():
    assert make_study(make_space(seed=1)).ask() != make_study(make_space(seed=2)).ask()


def test_a_finished_trial_is_told_with_its_values_and_how_it_keeps_the_constraints():
    space = make_space(constraints=["accuracy >= baseline - 1.0"])
    record = make_record(accuracy_points=77.5)
    assert objective_values(space, record) == [0.5, 0.4]
    assert violations(space, record, make_record()) == {"trained": 0.0, "accuracy >= baseline - 1.0": 0.015}


@pytest.mark.parametrize("status", ["diverged", "collapsed"])
def test_a_trial_that_did_not_train_is_infeasible_with_finite_worst_values(status):
    space = make_space(constraints=["accuracy >= baseline - 1.0", "gini >= 0.2"])
    record = make_record(status=status)
    assert objective_values(space, record) == [-1, 0]
    assert violations(space, record, make_record()) == {
        "trained": UNTRAINED_VIOLATION,
        "accuracy >= baseline - 1.0": 0.79,
        "gini >= 0.2": 0.2,
    }


def test_one_that_was_stopped_counts_as_worse_than_all_that_finished_and_as_better_than_what_failed():
    space = make_space(constraints=["accuracy >= baseline - 1.0"])
    kept = violations(space, make_record(status="stopped"), make_record())
    broken = violations(space, make_record(status="stopped", accuracy_points=10.0), make_record())
    finished = violations(space, make_record(accuracy_points=0.0), make_record())
    failed = violations(space, make_record(status="diverged"), make_record())
    assert sum(finished.values()) < sum(max(0, value) for value in kept.values())
    assert sum(max(0, value) for value in kept.values()) < sum(broken.values()) < sum(failed.values())


@pytest.mark.parametrize(
    ("status", "state"), [("finished", "COMPLETE"), ("stopped", "PRUNED"), ("failed", "FAIL"), ("diverged", "COMPLETE")]
)
def test_no_trial_stays_running_and_early_stopped_ones_are_not_complete(status, state):
    study = make_study(make_space())
    trial_id, _ = study.ask()
    study.tell(make_record(trial_id, status=status), make_record())
    assert [trial.state.name for trial in study._study.trials] == [state]


@pytest.mark.parametrize("version", ["5.0.0", "5.1.0"])
@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "diverged"])
def test_the_database_holds_what_the_sampler_sees(tmp_path, monkeypatch, status, version):
    """To each setting, value, constraint and state; points to be tried first, too. Written by us, and by Optuna."""
    monkeypatch.setattr(optuna, "__version__", version)
    space = make_space(points=[{"alpha": 0.5, "beta": 0.25}], constraints=["accuracy >= baseline - 1.0"])
    database = tmp_path / "study.db"
    study = NetworkStudy(space, "convnet_small", open_own_storage(database), cap=20, tell=UNHEARD.tell)
    for number in range(3):
        trial_id, _ = study.ask()
        if number < 2:
            study.tell(make_record(trial_id, status=status), make_record())
    loaded = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{database}")
    assert loaded.metric_names == ["corrected_consistency", "gini"]
    for there, here in zip(loaded.trials, study._study.trials, strict=True):
        for name in ("number", "state", "values", "params", "distributions", "user_attrs", "constraints"):
            assert getattr(there, name) == getattr(here, name), name
        assert there.system_attrs == here.system_attrs
        assert (there.datetime_complete is None) == (here.datetime_complete is None)
    assert loaded.trials[2].state.name == "RUNNING"


@pytest.fixture
def nine_hours_east(monkeypatch):
    monkeypatch.setenv("TZ", "east-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("nine_hours_east")
def test_the_database_has_the_times_of_its_trials_wherever_it_is_written(tmp_path):
    study = NetworkStudy(make_space(), "convnet_small", open_own_storage(tmp_path / "study.db"), cap=1, tell=print)
    study.tell(make_record(study.ask()[0]), make_record())
    (there,) = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{tmp_path}/study.db").trials
    (here,) = study._study.trials
    assert (there.datetime_start, there.datetime_complete) == (here.datetime_start, here.datetime_complete)


def test_the_database_knows_which_metric_is_to_be_small(tmp_path):
    space = make_space(metrics=[{"name": "degenerate_fraction"}, {"name": "gini"}])
    NetworkStudy(space, "convnet_small", open_own_storage(tmp_path / "study.db"), cap=1, tell=print)
    loaded = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{tmp_path}/study.db")
    assert [direction.name for direction in loaded.directions] == ["MINIMIZE", "MAXIMIZE"]


@pytest.mark.parametrize("name", ["what?", "100%20", "{x}", "a#b", "a b", "me:you@host"])
def test_a_runs_own_database_is_in_its_folder_whatever_that_is_called(tmp_path, name):
    (tmp_path / name).mkdir()
    storage = open_own_storage(tmp_path / name / "study.db")
    NetworkStudy(make_space(), "convnet_small", storage, cap=1, tell=UNHEARD.tell).ask()
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")] == [Path(name) / "study.db"]


def test_only_a_runs_own_database_does_without_waiting_for_the_disk(tmp_path):
    def synchronous(storage) -> int:
        with storage.engine.connect() as connection:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar()

    # SQLite's 0 is OFF, 2 is FULL: one that the user names may hold studies that nothing can make again.
    assert synchronous(open_own_storage(tmp_path / "study.db")) == 0
    assert synchronous(open_storage(f"sqlite:///{tmp_path}/other.db")) == 2


@pytest.mark.parametrize(
    ("url", "shown", "reason"),
    [
        ("nothing", "nothing", "Could not parse SQLAlchemy URL"),
        ("dbase://me:secret@host/s", "dbase://me:***@host/s", "Can't load plugin: sqlalchemy.dialects:dbase"),
        ("mysql://me:secret@host/studies", "mysql://me:***@host/studies", "No module named 'MySQLdb'"),
        ("mysql://host:x/studies", "mysql://host:x/studies", ""),
        ("sqlite:///{tmp}/nowhere/s.db", "sqlite:///{tmp}/nowhere/s.db", "unable to open database file"),
        ("sqlite:///{tmp}/file", "sqlite:///{tmp}/file", "file is not a database"),
    ],
)
@pytest.mark.parametrize("ask", [check_storage, open_storage])
def test_a_storage_that_cannot_be_used_is_one_line_without_its_password(tmp_path, ask, url, shown, reason):
    (tmp_path / "file").write_text("of another kind, and of some length: as long as a page's header" * 10)
    with pytest.raises(SpaceError) as caught:
        ask(url.format(tmp=tmp_path))
    told = str(caught.value)
    rule = "must be the SQLAlchemy URL of a database that answers"
    assert told.startswith(f"--storage: {rule}, got {shown.format(tmp=tmp_path)} ({reason}")
    assert told.endswith("); correct it, or leave it out")
    assert (told.count("\n"), "secret" in told) == (0, False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_storage_is_looked_at_and_not_made(tmp_path):
    check_storage(f"sqlite:///{tmp_path}/new.db")
    assert list(tmp_path.iterdir()) == []
    open_storage(f"sqlite:///{tmp_path}/old.db")
    before = (tmp_path / "old.db").read_bytes()
    check_storage(f"sqlite:///{tmp_path}/old.db")
    assert (tmp_path / "old.db").read_bytes() == before


def test_a_storage_that_holds_a_study_of_another_run_is_told_with_the_studys_name(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    for name in ("tiny/resnet18", "tiny/convnet_small", "other/resnet18"):
        optuna.create_study(study_name=name, storage=url)
    check_storage(url, new=["new/resnet18"])
    check_storage(url)
    with pytest.raises(SpaceError) as caught:
        check_storage(url, new=["tiny/resnet18", "tiny/convnet_small", "tiny/vit_b_16"])
    assert str(caught.value) == (
        "--storage: must hold no study of this name yet, got tiny/convnet_small, another run's; choose another --name, "
        "or delete it there with optuna delete-study"
    )


def test_what_a_database_refuses_is_told_by_whose_it_is_in_the_first_line_of_its_words():
    refusal = SQLAlchemyError("disk I/O error\n[SQL: INSERT INTO trials]")
    with pytest.raises(ResultsError) as own, refusals_told(None):
        raise refusal
    told = "study.db: must be a database to write to, got: disk I/O error; free space or mend its disk, then resume"
    assert str(own.value) == told
    with pytest.raises(SpaceError) as other, refusals_told("postgresql://me:secret@host/s"):
        raise refusal
    assert "got postgresql://me:***@host/s (disk I/O error); correct it" in str(other.value)


@pytest.mark.parametrize("version", ["5.0.0", "5.1.0"])
def test_a_database_that_fails_is_told_once_and_the_study_goes_on_as_without_it(tmp_path, monkeypatch, version):
    monkeypatch.setattr(optuna, "__version__", version)
    database, lines = tmp_path / "study.db", []
    undisturbed = make_study(make_space())
    study = NetworkStudy(make_space(), "convnet_small", open_own_storage(database), cap=20, tell=lines.append)
    for number in range(4):
        asked = study.ask()
        assert asked == undisturbed.ask()
        if number == 1:
            with contextlib.closing(sqlite3.connect(database)) as connection:
                connection.execute("DROP TABLE trial_values")
                connection.execute("DROP TABLE trials")
        for one in (study, undisturbed):
            one.tell(make_record(asked[0]), make_record())
    assert [trial.state.name for trial in study._study.trials] == ["COMPLETE"] * 4
    (line,) = lines
    told = "the study tiny/convnet_small is not kept in its database any more, which says: no such table"
    assert line.startswith(told)
    assert line.endswith("; the search goes on, and resume writes it anew")


def test_the_best_trials_of_a_study_are_feasible_ones():
    study = make_study(make_space(constraints=["accuracy >= baseline - 1.0"]))
    for accuracy, consistency in ((80.0, 0.4), (50.0, 0.9)):
        trial_id, _ = study.ask()
        told = make_record(trial_id, accuracy_points=accuracy, corrected_consistency=consistency)
        study.tell(told, make_record())
    assert [trial.values[0] for trial in study._study.best_trials] == [0.4]
