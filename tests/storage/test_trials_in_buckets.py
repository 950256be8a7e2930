"""A trial whose run lies in a bucket: recorded there as on a disk, and gone on with from any machine."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gcc_search.errors import StorageError
from gcc_search.identity import START, Identity
from gcc_search.recording import record_trial
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import EpochRow
from gcc_search.results.writer import write_epochs
from gcc_search.storage import mirror as mirrors
from gcc_search.storage import scratch
from gcc_search.storage.mirror import local_folder, mirror_of, pull
from gcc_search.trial import Ended
from gcc_search.working_folder import working_folder
from tests.storage.s3_server import BUCKET

RUN = f"s3://{BUCKET}/runs/tiny"
CPU = torch.device("cpu")
T1 = Identity(id="t1")
NOT_REPEATABLE = ["train_seconds", "evaluation_seconds", "peak_memory_bytes"]


@contextlib.contextmanager
def begun(settings, identity=T1, *, epochs, run=RUN, told=None):
    """(folder, events) of a trial in the bucket that has yielded so many rows."""
    told = [] if told is None else told
    with working_folder(run, f"trials/{identity.id}", settings, identity, told.append) as folder:
        events = record_trial(settings, folder, identity, device=CPU, on_notice=told.append)
        for _ in range(epochs):
            next(events)
        yield folder, events
        events.close()


def record(settings, identity=T1, run=RUN) -> Ended:
    with begun(settings, identity, epochs=0, run=run) as (_, events):
        *_, end = events
        return end


def stored(s3) -> Path:
    """Where the server keeps the trial."""
    return s3.root / BUCKET / "runs/tiny/trials/t1"


def names_in(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rows(folder) -> list[dict[str, object]]:
    return read_trial(folder).epochs().drop_columns(NOT_REPEATABLE).to_pylist()


@pytest.fixture(scope="module")
def local(tiny_trial, tmp_path_factory) -> Path:
    """The same trial on a disk."""
    folder = tmp_path_factory.mktemp("local") / "tiny" / "trials" / "t1"
    *_, end = record_trial(tiny_trial, folder, T1, device=CPU)
    assert end.status == "finished"
    return folder


def assert_equal_results(folder: Path, local: Path) -> None:
    assert rows(folder) == rows(local)
    assert read_trial(folder).images().to_pylist() == read_trial(local).images().to_pylist()
    assert (folder / "network.safetensors").read_bytes() == (local / "network.safetensors").read_bytes()


def test_a_trial_in_a_bucket_is_the_trial_on_a_disk_bit_for_bit(s3, tiny_trial, local):
    assert record(tiny_trial).status == "finished"
    assert names_in(stored(s3)) == names_in(local)
    assert_equal_results(stored(s3), local)


def test_nothing_is_left_on_the_machine(s3, tiny_trial):
    with begun(tiny_trial, epochs=1) as (folder, events):
        assert (folder / "trial.json").exists()
        events.close()
    assert not folder.parent.parent.parent.exists()


def test_what_a_killed_worker_left_is_removed_by_the_next_one(s3, tiny_trial, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "scratch_parent", lambda: tmp_path)
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    left = tmp_path / f"gcc-{dead.pid}-x"
    left.mkdir()
    with begun(tiny_trial, epochs=0):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_trial_goes_on_from_its_checkpoint_on_another_machine(s3, tiny_trial, local):
    with begun(tiny_trial, epochs=2) as (first, _):
        # Killed: its machine and all that is on it are gone, without a last word.
        assert any(name.startswith("checkpoint/epoch-000001") for name in names_in(stored(s3)))
        kept = {name: (stored(s3) / name).read_bytes() for name in names_in(stored(s3))}
    # The test's own end of it says that it was stopped.
    for name, content in kept.items():
        (stored(s3) / name).parent.mkdir(exist_ok=True)
        (stored(s3) / name).write_bytes(content)
    with begun(tiny_trial, epochs=0) as (second, events):
        assert second != first
        assert [event.epoch for event in events if not isinstance(event, Ended)] == [2]
    assert_equal_results(stored(s3), local)
    assert names_in(stored(s3)) == names_in(local)
    assert read_trial(stored(s3)).record.attempts == 2


def test_a_bucket_that_fails_now_and_then_changes_nothing(s3, tiny_trial, local):
    s3.num_errors = 3
    with begun(tiny_trial, epochs=1) as (_, events):
        s3.num_errors = 3
        list(events)
    assert s3.num_errors == 0
    assert_equal_results(stored(s3), local)


def test_a_bucket_that_is_lost_ends_the_trial_in_one_line(s3, tiny_trial, monkeypatch):
    monkeypatch.setenv("GCC_SEARCH_STORAGE_SECONDS", "1")
    with begun(tiny_trial, epochs=1) as (_, events):
        s3.stop()
        with pytest.raises(StorageError, match=r"must answer, got: NETWORK_CONNECTION .*\(tried for 1 s\)"):
            list(events)
    assert read_trial(stored(s3)).record.status == "running"


def test_a_worker_that_was_taken_for_lost_stops_and_changes_nothing(s3, tiny_trial, local):
    with begun(tiny_trial, epochs=1) as (_, lost):
        assert record(tiny_trial).status == "finished"
        # Partitioned from its driver, not from the bucket: it goes on.
        with pytest.raises(StorageError, match="must have one writer, got another's record there"):
            list(lost)
    assert_equal_results(stored(s3), local)
    record_there = read_trial(stored(s3)).record
    assert (record_there.status, record_there.attempts) == ("finished", 2)


def test_a_trial_fetches_of_its_baseline_what_it_needs(s3, tiny_trial):
    epochs_only = tiny_trial.model_copy(update={"explanation": tiny_trial.explanation.model_copy(update={"alpha": 0})})
    for identity, settings in (("base", epochs_only), ("start", tiny_trial)):
        with working_folder(
            RUN, f"baselines/{identity}", settings, Identity(id=identity, role="baseline"), print
        ) as to:
            list(record_trial(settings, to, Identity(id=identity, role="baseline"), device=CPU))
    s3.requests.clear()
    settings = tiny_trial.model_copy(update={"weights": f"{START}start"})
    assert record(settings, Identity(id="t1", baseline="base")).status == "finished"
    fetched = {name.removeprefix(f"/{BUCKET}/runs/tiny/") for name in s3.fetched()}
    assert {name for name in fetched if name.startswith("baselines")} == {
        "baselines/base/epochs.parquet",
        "baselines/base/trial.json",
        "baselines/start/network.safetensors",
        "baselines/start/trial.json",
    }


def test_what_a_baseline_reaches_beside_a_trial_is_fetched_as_it_comes(s3, tiny_trial, local):
    steep = [replace(EpochRow(**row), accuracy_points=100.0) for row in read_trial(local).epochs().to_pylist()]
    settings = tiny_trial.model_copy(update={"recipe": tiny_trial.recipe.model_copy(update={"epochs": 4})})
    with begun(settings, Identity(id="t1", baseline="base"), epochs=1) as (_, events):
        with local_folder(RUN) as run:
            write_epochs(run / "baselines/base", steep[:1])
        assert next(events).epoch == 2
        assert next(events).reason.endswith("points under the baseline's in epoch 2")


def test_signs_of_life_reach_the_bucket_and_not_too_often(s3, tiny_trial, monkeypatch):
    monkeypatch.setattr("gcc_search.keeper.BEAT_SECONDS", 0.0)
    puts = f"PUT /{BUCKET}/runs/tiny/trials/t1/trial.json"
    monkeypatch.setattr(mirrors, "LIFE_SECONDS", 0.0)
    with begun(tiny_trial, epochs=1) as (_, events):
        # At its start, with its images, after its epoch; and four steps.
        assert s3.requests.count(puts) >= 3 + 4
        monkeypatch.setattr(mirrors, "LIFE_SECONDS", 60.0)
        s3.requests.clear()
        next(events)
        assert s3.requests.count(puts) == 1


def test_a_sign_of_life_that_does_not_arrive_does_not_stop_training(s3, tiny_trial, monkeypatch):
    monkeypatch.setattr("gcc_search.keeper.BEAT_SECONDS", 0.0)
    monkeypatch.setattr(mirrors, "LIFE_SECONDS", 0.0)
    with begun(tiny_trial, epochs=1) as (folder, events):
        s3.num_errors = 1
        mirror_of(folder).lives(folder / "trial.json")
        assert s3.num_errors == 0
        assert next(events).epoch == 2


def test_the_driver_sees_when_a_worker_last_gave_a_sign(s3, tiny_trial, monkeypatch):
    monkeypatch.setattr(mirrors, "LOOK_SECONDS", 0.0)
    with begun(tiny_trial, epochs=1) as (_, events), local_folder(RUN) as run:
        path = run / "trials/t1/trial.json"
        first = mirror_of(run).last_change(path)
        assert first > 0
        s3.num_errors = 1
        # Not knowing is no news.
        assert mirror_of(run).last_change(path) == first
        assert mirror_of(run).last_change(run / "trials/t2/trial.json") == 0
        events.close()
    assert s3.num_errors == 0


def test_a_bucket_that_does_not_answer_is_asked_once_for_many_trials(s3):
    with local_folder(RUN) as run:
        s3.num_errors = 4
        assert [mirror_of(run).last_change(run / f"trials/t{number}/trial.json") for number in range(4)] == [0] * 4
    assert s3.num_errors == 3


def test_a_pull_shows_every_folder_and_fetches_what_was_asked_for(s3, tiny_trial):
    record(tiny_trial)
    with local_folder(RUN) as run:
        pull(run, "trial.json")
        assert names_in(run) == ["trials/t1/trial.json"]
        assert mirror_of(run).has(run / "trials/t1/network.safetensors")
        assert not mirror_of(run).has(run / "trials/t1/checkpoint")
