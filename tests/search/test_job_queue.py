"""What is trained next and what comes of it: the real queue over real records, workers aside, who leave these."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from ray.tune.search import Searcher
from rich.console import Console

from gcc_search.analysis.boundary import DECIDED
from gcc_search.errors import SpaceError
from gcc_search.patience import UNHEARD, Contact
from gcc_search.results.reader import read_run, read_trial
from gcc_search.results.schema import Status
from gcc_search.results.writer import write_trial
from gcc_search.search.baselines import find_baseline
from gcc_search.search.hours import Hours
from gcc_search.search.job_queue import JobQueue
from gcc_search.search.jobs import Job
from gcc_search.search.launch import SearchResult, _write_run
from gcc_search.search.readiness import Prepared, SearchOptions, prepare_search
from gcc_search.search.recall import make_queue, recall
from gcc_search.search.summary import print_summary
from tests.search.conftest import make_space
from tests.search.test_study import make_record

ALONE = {"weights": "none", "start": None, "constraints": ["accuracy >= baseline - 1"]}
TWO_RATES = {"lr": {"values": [0.001, 100.0]}, "alpha": {"distribution": "uniform", "min": 0.1, "max": 1.0}}

How = Callable[[Job], tuple[Status, float]]


def prepare(out: Path, **changes) -> Prepared:
    prepared = prepare_search(
        make_space(**ALONE | changes), SearchOptions(out=out, gpus=0, command=""), Console(file=io.StringIO())
    )
    prepared.run.mkdir()
    _write_run(prepared)
    return prepared


def recalled(prepared: Prepared) -> JobQueue:
    queue, _ = recall(prepared, read_run(prepared.run), Console(file=io.StringIO()))
    return queue


def leave(job: Job, run: Path, status: Status, accuracy: float) -> None:
    """The record that a worker leaves."""
    record = make_record(job.id, status=status, accuracy_points=accuracy)
    write_trial(
        job.folder(run),
        replace(
            record,
            network=job.settings.network,
            role=job.identity.role,
            sampled=job.identity.sampled,
            baseline=job.identity.baseline,
            settings=job.settings.model_dump(mode="json"),
            failures=["error"] if status == "failed" else [],
        ),
    )


def work(queue: JobQueue, run: Path, how: How, *, slots: int = 1, jobs: int = 1000) -> list[Job]:
    """What so many workers do, in turn, until there is nothing more to do."""
    running: dict[str, Job] = {}
    done: list[Job] = []
    while len(done) < jobs:
        config = queue.suggest(f"ray-{len(done) + len(running)}") if len(running) < slots else None
        if isinstance(config, dict):
            running[f"ray-{len(done) + len(running)}"] = Job.from_config(config)
            continue
        if not running:
            assert config == Searcher.FINISHED
            break
        name = next(iter(running))
        job = running.pop(name)
        leave(job, run, *how(job))
        queue.on_trial_complete(name)
        done.append(job)
    return done


def all_well(job: Job) -> tuple[Status, float]:
    return "finished", 80.0


def steep_ones_diverge(job: Job) -> tuple[Status, float]:
    return ("diverged" if job.settings.recipe.lr > 1 else "finished"), 80.0


def statuses(queue: JobQueue) -> Counter[str]:
    return Counter(outcome.record.status for outcome in queue.outcomes if outcome.job.is_trial)


@pytest.mark.parametrize("slots", [1, 3])
def test_a_baseline_that_diverges_takes_its_own_trials_with_it_and_no_others(tmp_path, slots):
    prepared = prepare(tmp_path, parameters=TWO_RATES, run_cap=12)
    queue = make_queue(prepared, Console(file=io.StringIO()))
    work(queue, prepared.run, steep_ones_diverge, slots=slots)
    found = statuses(queue)
    assert queue.is_done
    assert found.total() == 12
    assert found["finished"] > 2
    assert found["failed"] > 2
    failed = {outcome.record.reason for outcome in queue.outcomes if outcome.record.status == "failed"}
    assert all("it needs diverged" in str(reason) for reason in failed)


ANEW = "to train one anew: remove its folder, then resume"
CHANGE = "what diverges without alpha and beta does so again: change its recipe, then start a new run"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (steep_ones_diverge, [CHANGE]),
        (lambda job: ("failed", 80.0) if job.is_trial else steep_ones_diverge(job), [ANEW, CHANGE]),
        (lambda job: ("failed" if job.is_trial else "finished", 80.0), [ANEW]),
    ],
)
def test_what_fails_by_a_diverged_baseline_is_not_said_to_go_well_when_trained_anew(tmp_path, how, told):
    points = [{"lr": 100.0, "alpha": 0.5}, {"lr": 0.001, "alpha": 0.5}]
    prepared = prepare(tmp_path, parameters=TWO_RATES, method="points", points=points, run_cap=None)
    queue = make_queue(prepared, Console(file=io.StringIO()))
    work(queue, prepared.run, how)
    assert [line.strip() for line in summary_of(queue, prepared.run).splitlines() if line.startswith("  ")] == told


def result_of(queue: JobQueue, run: Path) -> SearchResult:
    return SearchResult(
        run=run,
        num_left=queue.num_trials - queue.num_ended,
        outcomes=tuple(queue.all_outcomes()),
        frontier=(),
        num_interrupted=0,
        interrupted=False,
        gave_up=queue.gives_up,
        out_of_time=queue.is_out_of_time,
        resume_command="gcc-search resume",
    )


def summary_of(queue: JobQueue, run: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_summary(result_of(queue, run), console)
    return console.file.getvalue()


@pytest.mark.parametrize("status", ["finished", "collapsed", "diverged", "stopped", "failed"])
def test_analyze_comes_next_where_a_trial_ended_that_it_draws(tmp_path, status):
    prepared = prepare(tmp_path, run_cap=3)
    queue = make_queue(prepared, Console(file=io.StringIO()))
    work(queue, prepared.run, lambda job: (status if job.is_trial else "finished", 80.0))
    told = f"next:    gcc-search analyze {prepared.run}\n" in summary_of(queue, prepared.run)
    # What analyze refuses a run without.
    assert told == (status in DECIDED)


def test_a_study_of_the_same_name_in_one_database_is_never_another_runs_to_replace(tmp_path):
    storage = f"sqlite:///{tmp_path}/all.db"

    def begin(out: Path, storage: str | None = storage) -> Prepared:
        options = SearchOptions(out=out, gpus=0, storage=storage, command=f"gcc-search --out {out}")
        prepared = prepare_search(make_space(**ALONE), options, Console(file=io.StringIO()))
        prepared.run.mkdir(parents=True)
        _write_run(prepared)
        return prepared

    def kept() -> list[str]:
        study = optuna.load_study(study_name="tiny/convnet_small", storage=storage)
        return [trial.user_attrs["trial_id"] for trial in study.trials]

    first = begin(tmp_path / "a")
    work(make_queue(first, Console(file=io.StringIO())), first.run, all_well)
    before = kept()
    assert len(before) == 3
    told = (
        "--storage: must hold no study of this name yet, got tiny/convnet_small, another run's; choose another --name"
    )
    with pytest.raises(SpaceError, match=f"^{told}"):
        begin(tmp_path / "b")
    assert not (tmp_path / "b").exists()
    # One that begins elsewhere is not resumed into it, and the run that made it is, also where it has been moved to.
    second = begin(tmp_path / "b", storage=None)
    told = "--storage: must hold no study tiny/convnet_small but this run's, got that of the run of "
    with pytest.raises(SpaceError, match=f"^{told}"):
        recalled(replace(second, options=replace(second.options, storage=storage)))
    assert kept() == before
    (tmp_path / "a").rename(tmp_path / "moved")
    recalled(replace(first, options=replace(first.options, out=tmp_path / "moved")))
    assert kept() == before


def test_where_no_baseline_is_left_nothing_more_is_asked_for(tmp_path):
    prepared = prepare(tmp_path, run_cap=12)
    queue = make_queue(prepared, Console(file=io.StringIO()))
    done = work(queue, prepared.run, lambda job: ("diverged", 10.0))
    assert [job.identity.role for job in done] == ["baseline"]
    assert statuses(queue) == {"failed": 1}


def test_trials_are_not_judged_by_a_baseline_that_is_half_trained(tmp_path):
    prepared = prepare(tmp_path, run_cap=3)
    first = make_queue(prepared, Console(file=io.StringIO()))
    baseline, *trials = work(first, prepared.run, lambda job: ("finished", 80.0 if job.is_trial else 90.0), jobs=3)
    assert not any(outcome.feasible for outcome in first.outcomes)
    leave(baseline, prepared.run, "interrupted", 20.0)

    queue = recalled(prepared)
    assert (queue.num_ended, queue.outcomes) == (2, [])
    last = work(queue, prepared.run, lambda job: ("finished", 90.0))
    assert last[0].id == baseline.id
    assert {outcome.job.id: outcome.feasible for outcome in queue.outcomes if outcome.job.is_trial} == {
        trials[0].id: False,
        trials[1].id: False,
        last[1].id: True,
    }
    assert queue.num_ended == 3


def test_a_trial_that_had_begun_waits_for_a_baseline_that_was_interrupted(tmp_path):
    prepared = prepare(tmp_path, run_cap=2)
    first = make_queue(prepared, Console(file=io.StringIO()))
    baseline, trial = work(first, prepared.run, all_well, jobs=2)
    for job in (baseline, trial):
        leave(job, prepared.run, "interrupted", 20.0)
    queue = recalled(prepared)
    assert [job.id for job in work(queue, prepared.run, all_well, jobs=2)] == [baseline.id, trial.id]
    assert statuses(queue) == {"finished": 1}


def test_a_baseline_that_is_lost_is_trained_before_its_trials_are_judged(tmp_path):
    prepared = prepare(tmp_path, run_cap=2)
    first = make_queue(prepared, Console(file=io.StringIO()))
    baseline, trial = work(first, prepared.run, all_well, jobs=2)
    (baseline.folder(prepared.run) / "trial.json").unlink()
    queue = recalled(prepared)
    assert work(queue, prepared.run, all_well, jobs=1)[0].id == baseline.id
    assert {outcome.job.id: outcome.feasible for outcome in queue.outcomes if outcome.job.is_trial} == {trial.id: True}


def test_failures_of_an_earlier_process_end_no_search_that_was_resumed(tmp_path):
    """Not even where its baseline is trained again, and its trials are judged only then."""
    prepared = prepare(tmp_path, run_cap=6, max_failed_trials=2)
    first = make_queue(prepared, Console(file=io.StringIO()))
    done = work(first, prepared.run, lambda job: ("failed" if job.id.endswith(("1", "2")) else "finished", 80.0))
    assert first.gives_up
    (done[0].folder(prepared.run) / "trial.json").unlink()
    queue = recalled(prepared)
    again = work(queue, prepared.run, all_well)
    assert again[0].id == done[0].id
    assert not queue.gives_up
    assert statuses(queue) == {"failed": 2, "finished": 4}


def test_a_baseline_that_failed_is_tried_again_after_a_resume_if_a_trial_needs_it(tmp_path):
    prepared = prepare(tmp_path, run_cap=2)
    first = make_queue(prepared, Console(file=io.StringIO()))
    work(first, prepared.run, lambda job: ("failed", 0.0))
    queue = recalled(prepared)
    again = work(queue, prepared.run, all_well)
    assert [job.identity.role for job in again] == ["baseline", "trial"]
    assert statuses(queue) == {"failed": 1, "finished": 1}


def test_a_trial_whose_record_is_torn_does_not_go_on_from_what_may_be_anothers_state(tmp_path):
    prepared = prepare(tmp_path, run_cap=2)
    _, trial = work(make_queue(prepared, Console(file=io.StringIO())), prepared.run, all_well, jobs=2)
    folder = trial.folder(prepared.run)
    (folder / "trial.json").write_text("{")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "epoch").write_text("of whichever settings it had")
    queue = recalled(prepared)
    assert not (folder / "checkpoint").exists()
    work(queue, prepared.run, all_well)
    assert read_trial(folder).record.status == "finished"


@pytest.mark.parametrize(
    ("changes", "on_gpu", "is_found"),
    [({}, False, True), ({}, True, False), ({"device": "NVIDIA H200"}, True, True), ({"versions": {}}, False, False)],
)
def test_a_run_beside_it_lends_baselines_of_like_machines_only(tiny_search, tmp_path, changes, on_gpu, is_found):
    lender = tmp_path / "lender"
    shutil.copytree(tiny_search[0].run, lender)
    found = next(trial for trial in read_run(lender).baselines.values() if trial.record.role == "baseline")
    write_trial(found.folder, replace(found.record, **changes))
    assert (find_baseline(tmp_path / "new", found.record.id, UNHEARD, on_gpu=on_gpu) is not None) == is_found
    assert (tmp_path / "new" / "baselines" / found.record.id).exists() == is_found
    assert find_baseline(lender, found.record.id, UNHEARD, on_gpu=on_gpu) is not None


def test_a_run_beside_it_lends_no_damaged_baseline(tiny_search, tmp_path):
    lender = tmp_path / "lender"
    shutil.copytree(tiny_search[0].run, lender)
    found = next(trial for trial in read_run(lender).baselines.values() if trial.record.role == "baseline")
    (found.folder / "network.safetensors").write_bytes(b"other bytes")
    assert find_baseline(tmp_path / "new", found.record.id, UNHEARD, on_gpu=False) is None
    assert not (tmp_path / "new" / "baselines" / found.record.id).exists()


def test_a_study_database_that_breaks_costs_a_line_and_resume_makes_it_again(tmp_path):
    prepared = prepare(tmp_path, run_cap=4)
    console = Console(file=io.StringIO(), width=200)
    queue = make_queue(prepared, console)
    work(queue, prepared.run, all_well, jobs=2)
    (prepared.run / "study.db").write_bytes(b"no database, for longer than a header" * 1000)
    work(queue, prepared.run, all_well)
    assert (queue.is_done, statuses(queue)["finished"]) == (True, 4)
    printed = console.file.getvalue()
    assert printed.count("the study tiny/convnet_small is not kept in its database any more, which says: ") == 1
    recalled(prepared)
    study = optuna.load_study(study_name="tiny/convnet_small", storage=f"sqlite:///{prepared.run}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


class Slots:
    """Workers that are driven one by one: what each runs, and how it ends."""

    def __init__(self, prepared: Prepared) -> None:
        self.queue, self._run = make_queue(prepared, Console(file=io.StringIO())), prepared.run
        self._number = 0

    def begin(self) -> tuple[str, Job] | None:
        """A worker with a job, or None where none may start now."""
        self._number += 1
        config = self.queue.suggest(f"ray-{self._number}")
        return (f"ray-{self._number}", Job.from_config(config)) if isinstance(config, dict) else None

    def end(
        self,
        begun: tuple[str, Job],
        status: Status,
        failures: list[str],
        *,
        accuracy: float = 80.0,
        hours: float = 0.001,
        epochs: int = 2,
    ) -> None:
        worker, job = begun
        leave(job, self._run, status, accuracy)
        folder = job.folder(self._run)
        seconds = 3600.0 * hours
        left = replace(read_trial(folder).record, failures=failures, device_seconds=seconds, epochs_done=epochs)
        write_trial(folder, left)
        self.queue.on_trial_complete(worker)


def test_what_ran_out_of_memory_waits_until_it_is_alone_and_nothing_starts_beside_it(tmp_path):
    slots = Slots(prepare(tmp_path, run_cap=4))
    slots.end(slots.begin(), "finished", [])
    large, other = slots.begin(), slots.begin()
    slots.end(large, "failed", ["memory"])
    assert slots.begin() is None, "it waits for the other, and all wait with it"
    slots.end(other, "finished", [])
    again = slots.begin()
    (running,) = slots.queue.running
    assert (again[1].id, running.alone, running.failures) == (large[1].id, True, ("memory",))
    assert slots.begin() is None, "nothing starts beside it"
    slots.end(again, "finished", ["memory"])
    assert {slots.begin()[1].id, slots.begin()[1].id} == {"convnet_small-0002", "convnet_small-0003"}


def test_trials_begin_beside_their_baseline_and_are_judged_when_it_has_ended(tmp_path):
    slots = Slots(prepare(tmp_path, run_cap=2))
    baseline, good, poor = slots.begin(), slots.begin(), slots.begin()
    assert [job.identity.role for _, job in (baseline, good, poor)] == ["baseline", "trial", "trial"]
    slots.end(good, "finished", [])
    slots.end(poor, "finished", [], accuracy=75.0)
    assert (slots.queue.outcomes, slots.queue.num_ended, slots.queue.is_done) == ([], 2, False)
    slots.end(baseline, "finished", [])
    assert slots.queue.is_done
    assert {outcome.job.id: outcome.feasible for outcome in slots.queue.outcomes if outcome.job.is_trial} == {
        good[1].id: True,
        poor[1].id: False,
    }


def test_a_trial_that_ended_before_its_baseline_and_is_far_under_it_has_collapsed(tmp_path):
    """As its worker would have said, had the baseline been through its epochs."""
    prepared = prepare(tmp_path, run_cap=1, constraints=[])
    slots = Slots(prepared)
    baseline, trial = slots.begin(), slots.begin()
    slots.end(trial, "finished", [], accuracy=69.9)
    slots.end(baseline, "finished", [])
    assert statuses(slots.queue) == {"collapsed": 1}
    record = read_trial(trial[1].folder(prepared.run)).record
    assert (record.status, record.reason) == ("collapsed", "accuracy 10.1 points under the baseline's in epoch 2")
    assert statuses(recalled(prepared)) == {"collapsed": 1}


def test_a_trial_that_ended_in_time_is_kept_where_its_baseline_fails(tmp_path):
    slots = Slots(prepare(tmp_path, run_cap=3, constraints=["accuracy >= baseline - 100", "gini >= 0"]))
    baseline, trial = slots.begin(), slots.begin()
    slots.end(trial, "finished", [])
    slots.end(baseline, "diverged", [])
    assert slots.begin() is None
    assert statuses(slots.queue) == {"finished": 1}
    (outcome,) = (outcome for outcome in slots.queue.outcomes if outcome.job.is_trial)
    assert not outcome.feasible, "it is compared to nothing"


def test_a_baseline_that_failed_beside_its_trial_is_tried_again_after_a_resume(tmp_path):
    prepared = prepare(tmp_path, run_cap=1)
    slots = Slots(prepared)
    baseline, trial = slots.begin(), slots.begin()
    slots.end(trial, "finished", [])
    slots.end(baseline, "failed", ["error"])
    assert [outcome.feasible for outcome in slots.queue.outcomes] == [False, False]
    queue = recalled(prepared)
    assert [job.id for job in work(queue, prepared.run, all_well)] == [baseline[1].id]
    assert [outcome.feasible for outcome in queue.outcomes if outcome.job.is_trial] == [True]


def test_a_baseline_that_diverges_is_a_failure_of_the_search_also_when_it_is_resumed(tmp_path):
    prepared = prepare(tmp_path, run_cap=20)
    slots = Slots(prepared)
    baseline, trial = slots.begin(), slots.begin()
    slots.end(trial, "finished", [])
    slots.end(baseline, "diverged", [])
    for queue in (slots.queue, recalled(prepared)):
        assert queue.suggest("next") == Searcher.FINISHED
        result = result_of(queue, prepared.run)
        assert ([outcome.job.id for outcome in result.failed], result.exit_code) == ([baseline[1].id], 2)
        printed = summary_of(queue, prepared.run)
        assert printed.startswith("ended early: trials 1 finished, 19 not trained; 0 feasible\n")
        assert CHANGE in printed


def test_a_trial_that_has_begun_goes_on_where_its_baseline_diverges_also_after_a_resume(tmp_path):
    prepared = prepare(tmp_path, run_cap=5)
    slots = Slots(prepared)
    baseline, trial = slots.begin(), slots.begin()
    slots.end(trial, "failed", ["crash"], hours=2, epochs=1)
    again = slots.begin()
    slots.end(baseline, "diverged", [])
    slots.end(again, "failed", ["crash", "crash"], hours=3, epochs=1)
    assert slots.begin()[1].id == trial[1].id
    queue = recalled(prepared)
    assert [job.id for job in work(queue, prepared.run, all_well)] == [trial[1].id]
    assert statuses(queue) == {"finished": 1}


def test_a_baseline_that_diverged_is_not_trained_again_whichever_record_leads_to_it(tmp_path):
    prepared = prepare(tmp_path, run_cap=3)
    slots = Slots(prepared)
    baseline, first, second = slots.begin(), slots.begin(), slots.begin()
    slots.end(first, "finished", [])
    slots.end(second, "finished", [])
    slots.end(baseline, "diverged", [])
    (first[1].folder(prepared.run) / "trial.json").write_text("{")
    queue = recalled(prepared)
    assert work(queue, prepared.run, all_well) == []
    roles = [(outcome.job.identity.role, outcome.record.status) for outcome in queue.outcomes]
    assert sorted(roles) == [("baseline", "diverged"), ("trial", "failed"), ("trial", "finished")]


def test_where_a_start_network_diverged_a_resumed_search_asks_for_nothing_more(tmp_path):
    prepared = prepare(tmp_path, run_cap=3, **STARTED)
    first = make_queue(prepared, Console(file=io.StringIO()))
    assert [job.identity.role for job in work(first, prepared.run, lambda job: ("diverged", 10.0))] == ["start"]
    for _ in range(2):
        queue = recalled(prepared)
        assert work(queue, prepared.run, all_well) == []
        assert (statuses(queue), result_of(queue, prepared.run).exit_code) == ({"failed": 1}, 2)


def by_its_number(job: Job) -> tuple[Status, float]:
    return "finished", 80.0 + int(job.id[-2:], 16) % 7


def test_with_more_trials_the_sampler_goes_on_as_in_a_search_of_so_many_from_the_start(tmp_path):
    def sampled(queue: JobQueue) -> list[object]:
        return [outcome.record.sampled for outcome in queue.outcomes if outcome.job.is_trial]

    metrics = [{"name": "accuracy"}, {"name": "gini"}]
    for name in ("short", "long"):
        (tmp_path / name).mkdir()
    short, long = (
        prepare(tmp_path / name, run_cap=cap, metrics=metrics) for name, cap in (("short", 30), ("long", 36))
    )
    work(make_queue(short, Console(file=io.StringIO())), short.run, by_its_number)
    queue = recalled(replace(short, space=short.space.model_copy(update={"run_cap": 36})))
    work(queue, short.run, by_its_number)
    undisturbed = make_queue(long, Console(file=io.StringIO()))
    work(undisturbed, long.run, by_its_number)
    assert len(sampled(queue)) == 36
    assert sampled(queue) == sampled(undisturbed)


def test_what_waits_for_its_baseline_is_told_when_the_search_ends_first(tmp_path):
    prepared = prepare(tmp_path, run_cap=4, max_failed_trials=1)
    slots = Slots(prepared)
    told = []
    slots.queue.contact = Contact(tell=told.append)
    baseline, first, second = slots.begin(), slots.begin(), slots.begin()
    slots.end(first, "finished", [])
    slots.end(second, "failed", ["error"])
    assert told[0] == f"{first[1].id}: finished; judged when its baseline, {baseline[1].id}, has ended"
    slots.end(baseline, "failed", ["crash"])
    assert (slots.begin(), slots.queue.gives_up) == (None, True)
    result = result_of(slots.queue, prepared.run)
    assert (result.statuses(), result.exit_code) == ({"finished": 1, "failed": 1}, 2)
    assert [outcome.job.id for outcome in result.failed] == [second[1].id]


def test_what_was_stopped_before_its_baseline_ended_is_judged_by_it_after_a_resume(tmp_path):
    prepared = prepare(tmp_path, run_cap=1)
    slots = Slots(prepared)
    baseline, trial = slots.begin(), slots.begin()
    slots.end(trial, "stopped", [])
    leave(baseline[1], prepared.run, "interrupted", 20.0)
    queue = recalled(prepared)
    assert (queue.num_ended, queue.outcomes, queue.is_done) == (1, [], False)
    assert [job.id for job in work(queue, prepared.run, all_well)] == [baseline[1].id]
    assert [outcome.baseline.status for outcome in queue.outcomes if outcome.job.is_trial] == ["finished"]


STARTED = {"weights": "baseline", "start": {"epochs": 1}}
SEEDS = {"alpha": {"distribution": "uniform", "min": 0.1, "max": 1.0}, "seed": {"values": [0, 1, 2]}}


def test_no_trial_is_drawn_before_it_can_start(tmp_path):
    """What is drawn while a start network is trained would know of no trial."""
    slots = Slots(prepare(tmp_path, run_cap=4, **STARTED))
    start = slots.begin()
    assert start[1].identity.role == "start"
    assert [slots.begin(), slots.begin()] == [None, None]
    assert slots.queue.num_waiting == 1
    slots.end(start, "finished", [])
    assert [slots.begin()[1].identity.role for _ in range(3)] == ["baseline", "trial", "trial"]


def test_start_networks_of_several_seeds_are_trained_side_by_side(tmp_path):
    slots = Slots(prepare(tmp_path, run_cap=8, parameters=SEEDS, **STARTED))
    starts = [slots.begin() for _ in range(3)]
    assert [(job.identity.role, job.settings.seed) for _, job in starts] == [("start", seed) for seed in (0, 1, 2)]
    assert slots.begin() is None
    assert slots.queue.num_waiting == 3
    slots.end(starts[1], "finished", [])
    assert [(job.identity.role, job.settings.seed) for _, job in (slots.begin(), slots.begin())] == [
        ("baseline", 1),
        ("trial", 1),
    ]


def test_baselines_of_several_seeds_keep_no_device_waiting(tmp_path):
    slots = Slots(prepare(tmp_path, run_cap=8, parameters=SEEDS))
    begun = [slots.begin()[1] for _ in range(6)]
    assert [(job.identity.role, job.settings.seed) for job in begun] == [
        (role, seed) for seed in (0, 1, 2) for role in ("baseline", "trial")
    ]


class Stopwatch:
    """Hours that are told how many have passed."""

    def __init__(self, slots: Slots, most: float) -> None:
        self.passed = 0.0
        self.told: list[str] = []
        slots.queue._hours = Hours(most, self.told.append, lambda: 3600 * self.passed)


def test_what_would_not_end_in_time_is_not_started_and_a_resumed_search_goes_on_with_it(tmp_path):
    prepared = prepare(tmp_path, run_cap=4, max_hours=8)
    slots = Slots(prepared)
    watch = Stopwatch(slots, 8)
    slots.end(slots.begin(), "finished", [], hours=2)
    first, second = slots.begin(), slots.begin()
    watch.passed = 5
    slots.end(first, "finished", [], hours=3)
    assert slots.begin() is None, "three hours more are eight"
    assert (slots.queue.is_out_of_time, slots.queue.num_waiting) == (True, 0)
    slots.end(second, "finished", [], hours=3)
    assert slots.queue.suggest("last") == Searcher.FINISHED
    printed = summary_of(slots.queue, prepared.run)
    assert printed.startswith("time is up: trials 2 finished, 2 not trained; 2 feasible\n")
    assert "go on:   gcc-search resume\n" in printed
    assert len(watch.told) == 1
    queue = recalled(prepared)
    work(queue, prepared.run, all_well)
    assert (statuses(queue), queue.is_out_of_time) == ({"finished": 4}, False)


def test_a_trial_that_has_begun_is_gone_on_with_where_its_last_epochs_fit(tmp_path):
    slots = Slots(prepare(tmp_path, run_cap=3, max_hours=4))
    watch = Stopwatch(slots, 4)
    slots.end(slots.begin(), "finished", [], hours=1)
    first, second = slots.begin(), slots.begin()
    slots.end(first, "finished", [], hours=3)
    watch.passed = 2
    slots.end(second, "failed", ["crash"], hours=2, epochs=1)
    assert slots.begin()[1].id == second[1].id, "half of three hours"
    assert slots.begin() is None


def test_a_quick_network_goes_on_where_a_slow_one_would_not_end_in_time(tmp_path):
    recipe = {"epochs": 2, "image_size": 64}
    networks = ["convnet_small", "mobilenet_v3_large"]
    slots = Slots(prepare(tmp_path, networks=networks, recipe=recipe, run_cap=8))
    watch = Stopwatch(slots, 4)
    for job in [slots.begin() for _ in range(4)]:
        if not job[1].is_trial:
            slots.end(job, "finished", [], hours={"convnet_small": 1, "mobilenet_v3_large": 3}[job[1].settings.network])
    # A trial takes twice as long as its baseline, for all that is known.
    watch.passed = 1.5
    later = [slots.begin()[1] for _ in range(3)]
    assert [job.settings.network for job in later] == ["convnet_small"] * 3
    assert slots.begin() is None


def test_networks_take_turns(tmp_path):
    recipe = {"epochs": 2, "image_size": 64}
    slots = Slots(prepare(tmp_path, networks=["convnet_small", "mobilenet_v3_large"], recipe=recipe, run_cap=4))
    begun = []
    while (job := slots.begin()) is not None:
        begun.append(job[1])
        slots.end(job, "finished", [])
    trials = [job.id for job in begun if job.is_trial]
    assert trials == [f"{name}-000{number}" for number in (0, 1) for name in ("convnet_small", "mobilenet_v3_large")]


def test_a_trial_that_may_be_tried_again_is_after_a_resume(tmp_path):
    prepared = prepare(tmp_path, run_cap=1)
    slots = Slots(prepared)
    slots.end(slots.begin(), "finished", [])
    _, job = slots.begin()
    leave(job, prepared.run, "failed", 80.0)
    folder = job.folder(prepared.run)
    write_trial(folder, replace(read_trial(folder).record, failures=["crash"]))
    queue = recalled(prepared)
    assert [done.id for done in work(queue, prepared.run, all_well) if done.is_trial] == [job.id]
    assert statuses(queue) == {"finished": 1}


def test_states_of_what_has_ended_are_removed_when_a_search_goes_on(tmp_path):
    prepared = prepare(tmp_path, run_cap=2)
    slots = Slots(prepared)
    slots.end(slots.begin(), "finished", [])
    ended, begun = slots.begin(), slots.begin()
    slots.end(ended, "finished", [])
    leave(begun[1], prepared.run, "interrupted", 20.0)
    states = [job.folder(prepared.run) / "checkpoint" for _, job in (ended, begun)]
    for state in states:
        state.mkdir()
    recalled(prepared)
    assert [state.exists() for state in states] == [False, True]
