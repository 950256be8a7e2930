"""A trial's directory: whole when it ends well, honest when it does not, and as good after a move."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from gcc_search.errors import DataError, DiskError, ResultsError, WeightsError
from gcc_search.failures import failure_kind
from gcc_search.identity import START, Identity, package_versions
from gcc_search.patience import UNHEARD
from gcc_search.recording import record_trial
from gcc_search.reference import Reference
from gcc_search.results.reader import read_trial
from gcc_search.results.schema import EPOCHS, HEATMAPS, IMAGES, NETWORK_FILE, EpochRow
from gcc_search.results.writer import write_epochs, write_trial
from gcc_search.settings import DataSettings, Explanation, TrialSettings
from gcc_search.training.checkpoint import load_checkpoint
from gcc_search.trial import Ended, Surroundings, run_trial

CPU = torch.device("cpu")
NOT_REPEATABLE = ["train_seconds", "evaluation_seconds", "peak_memory_bytes"]


def record(settings: TrialSettings, folder, identity: Identity | None = None) -> list[EpochRow | Ended]:
    return list(record_trial(settings, folder, identity or Identity(id=folder.name), device=CPU))


def start(settings: TrialSettings, folder, *, epochs: int, on_progress=None):
    """A recorded trial that has yielded so many rows."""
    events = record_trial(settings, folder, Identity(id=folder.name), device=CPU, on_progress=on_progress)
    for _ in range(epochs):
        next(events)
    return events


def repeatable(trial) -> list[dict[str, object]]:
    return trial.epochs().drop_columns(NOT_REPEATABLE).to_pylist()


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def recorded(tiny_trial, tmp_path_factory):
    """(folder, events) of a trial that finished."""
    folder = tmp_path_factory.mktemp("run") / "trials" / "t1"
    return folder, record(tiny_trial, folder, Identity(id="t1", sampled={"alpha": 1.0}))


def test_a_finished_trial_leaves_its_record_its_tables_and_its_network(recorded):
    folder, _ = recorded
    assert names_in(folder) == [
        "epochs.parquet",
        "heatmaps.parquet",
        "images.parquet",
        "network.safetensors",
        "trial.json",
    ]


def test_what_a_worker_has_ended_though_it_was_given_up_is_not_trained_twice(recorded, tiny_trial, tmp_path):
    folder = shutil.copytree(recorded[0], tmp_path / "t1")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    given_up = {"device": CPU, "failures": ["crash"]}
    assert list(record_trial(tiny_trial, folder, Identity(id="t1"), **given_up)) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / NETWORK_FILE).write_bytes(b"torn")
    assert len(list(record_trial(tiny_trial, folder, Identity(id="t1"), **given_up))) == 3


def test_failures_that_a_worker_has_written_over_are_remembered(tiny_trial, tmp_path):
    folder = tmp_path / "t1"
    start(tiny_trial, folder, epochs=1).close()
    write_trial(folder, replace(read_trial(folder).record, status="running"))
    list(record_trial(tiny_trial, folder, Identity(id="t1"), device=CPU, failures=["crash", "memory"]))
    record = read_trial(folder).record
    assert (record.status, record.attempts, record.failures) == ("finished", 3, ["crash", "memory"])


def test_the_record_says_what_was_trained_where_and_how_it_ended(recorded, tiny_trial, shapes):
    record = read_trial(recorded[0]).record
    assert (record.id, record.role, record.status, record.reason) == ("t1", "trial", "finished", None)
    assert TrialSettings.model_validate(record.settings) == tiny_trial
    assert (record.sampled, record.baseline) == ({"alpha": 1.0}, None)
    assert (record.device, record.epochs_done, record.attempts) == ("cpu", 2, 1)
    assert record.data_fingerprint == shapes.fingerprint
    assert record.versions == package_versions()
    assert record.device_seconds > 0


def test_the_tables_hold_what_was_yielded(recorded, shapes):
    folder, (*rows, ended) = recorded
    trial = read_trial(folder)
    assert trial.epochs().to_pylist() == [row.to_dict() for row in rows]
    assert trial.images()["name"].to_pylist() == list(shapes.test.names)
    assert trial.images()["consistency"].to_pylist() == ended.columns["consistency"].tolist()
    assert trial.images()["iauc"].null_count == len(shapes.test) - 2
    assert (trial.epochs().schema, trial.images().schema) == (EPOCHS, IMAGES)


def test_a_few_test_images_are_kept_with_their_maps(recorded, shapes):
    kept = read_trial(recorded[0]).heatmaps()
    assert kept.schema == HEATMAPS
    indices = kept["index"].to_pylist()
    assert kept["name"].to_pylist() == [shapes.test.names[index] for index in indices]
    measured = read_trial(recorded[0]).images(["consistency"])["consistency"].to_pylist()
    assert kept["consistency"].to_pylist() == [measured[index] for index in indices]


def test_the_record_ends_with_the_last_epoch_and_the_tests_means(recorded):
    folder, (*rows, ended) = recorded
    record = read_trial(folder).record
    assert record.validation == rows[-1].to_dict()
    assert record.test == ended.summary


def test_recording_changes_no_number(recorded, tiny_trial):
    *rows, _ = run_trial(tiny_trial, Surroundings(device=CPU))
    for row, kept in zip(rows, repeatable(read_trial(recorded[0])), strict=True):
        assert {name: value for name, value in row.to_dict().items() if name in kept} == kept


def test_a_closed_trial_was_stopped_early(tiny_trial, tmp_path):
    start(tiny_trial, tmp_path / "t", epochs=1).close()
    record = read_trial(tmp_path / "t").record
    assert (record.status, record.reason) == ("stopped", "early stopping")
    assert (record.epochs_done, record.test) == (1, None)
    assert names_in(tmp_path / "t") == ["epochs.parquet", "trial.json"]


def test_a_trial_that_was_stopped_early_leaves_no_state(tiny_trial, tmp_path):
    start(tiny_trial, tmp_path / "t", epochs=2).close()
    assert read_trial(tmp_path / "t").record.status == "stopped"
    assert names_in(tmp_path / "t") == ["epochs.parquet", "trial.json"]


def test_seconds_of_all_attempts_count(tiny_trial, tmp_path):
    interrupt(tiny_trial, tmp_path / "t")
    before = replace(read_trial(tmp_path / "t").record, device_seconds=1000.0)
    write_trial(tmp_path / "t", before)
    record(tiny_trial, tmp_path / "t")
    assert read_trial(tmp_path / "t").record.device_seconds > 1000


def test_closing_a_trial_that_has_ended_changes_nothing(tiny_trial, tmp_path):
    events = start(tiny_trial, tmp_path / "t", epochs=3)
    before = (tmp_path / "t" / "trial.json").read_bytes()
    events.close()
    assert (tmp_path / "t" / "trial.json").read_bytes() == before


def stop_in_epoch_2(error: BaseException):
    def on_progress(state):
        if (state.phase, state.epoch) == ("train", 2):
            raise error

    return on_progress


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "stopped by the user"),
        (RuntimeError("CUDA out of memory\nlong story"), "failed", "out of memory (RuntimeError: CUDA out of memory)"),
        (MemoryError(), "failed", "out of memory (MemoryError)"),
    ],
)
def test_an_exception_is_recorded_and_raised(tiny_trial, tmp_path, error, status, reason):
    with pytest.raises(type(error)) as caught:
        start(tiny_trial, tmp_path / "t", epochs=3, on_progress=stop_in_epoch_2(error))
    assert caught.value is error
    record = read_trial(tmp_path / "t").record
    assert (record.status, record.reason, record.epochs_done) == (status, reason, 1)


def test_images_that_are_missing_are_recorded_as_a_failure(tiny_trial, tmp_path):
    settings = tiny_trial.model_copy(update={"data": DataSettings(name="imagefolder", root=tmp_path / "none")})
    with pytest.raises(DataError):
        record(settings, tmp_path / "t")
    assert read_trial(tmp_path / "t").record.reason.startswith("DataError: ")


def test_a_diverged_trial_has_no_test_images_and_no_network(tiny_trial, tmp_path):
    recipe = tiny_trial.recipe.model_copy(update={"lr": 1e30})
    record(tiny_trial.model_copy(update={"recipe": recipe}), tmp_path / "t")
    trial = read_trial(tmp_path / "t")
    assert (trial.record.status, trial.record.reason) == ("diverged", "loss was not finite in epoch 1")
    assert (trial.record.validation["loss"], trial.record.test) == (None, None)
    assert names_in(tmp_path / "t") == ["epochs.parquet", "trial.json"]


def test_a_trial_goes_on_from_its_last_checkpoint(recorded, tiny_trial, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(tiny_trial, tmp_path / "t", epochs=3, on_progress=stop_in_epoch_2(KeyboardInterrupt()))
    first = read_trial(tmp_path / "t").record
    events = record(tiny_trial, tmp_path / "t")
    trial = read_trial(tmp_path / "t")
    assert [event.epoch for event in events[:-1]] == [2]
    assert (first.attempts, trial.record.attempts) == (1, 2)
    assert trial.record.started == first.started
    assert trial.record.device_seconds > first.device_seconds > 0
    assert trial.record.epochs_done == 2


def kill_between_row_and_state(settings: TrialSettings, folder) -> None:
    """Rows of two epochs, and the state after the first: a row is kept before its state is."""
    with pytest.raises(KeyboardInterrupt):
        start(settings, folder, epochs=2).throw(KeyboardInterrupt())
    assert len(read_trial(folder).epochs()) == 2
    assert load_checkpoint(folder / "checkpoint").epoch == 1


def test_a_resumed_trial_ends_with_the_same_files(recorded, tiny_trial, tmp_path):
    kill_between_row_and_state(tiny_trial, tmp_path / "t")
    *rows, _ = record(tiny_trial, tmp_path / "t")
    assert [row.epoch for row in rows] == [2]
    trial, undisturbed = read_trial(tmp_path / "t"), read_trial(recorded[0])
    assert repeatable(trial) == repeatable(undisturbed)
    assert trial.images().equals(undisturbed.images())
    assert (trial.folder / NETWORK_FILE).read_bytes() == (undisturbed.folder / NETWORK_FILE).read_bytes()


def test_a_trial_killed_before_its_test_keeps_its_validation(recorded, tiny_trial, tmp_path):
    def on_progress(state):
        if state.phase == "test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(tiny_trial, tmp_path / "t", epochs=3, on_progress=on_progress)
    (ended,) = record(tiny_trial, tmp_path / "t")
    trial = read_trial(tmp_path / "t")
    assert ended.status == "finished"
    assert (trial.record.epochs_done, trial.record.validation) == (2, trial.epochs().to_pylist()[-1])


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(recorded, tiny_trial, tmp_path):
    folder, told = tmp_path / "t", []
    interrupt(tiny_trial.model_copy(update={"seed": 5}), folder)
    (folder / NETWORK_FILE).write_bytes(b"another's")
    events = record_trial(tiny_trial, folder, Identity(id="t"), device=CPU, on_notice=told.append)
    assert next(events).epoch == 1
    assert told == ["begins anew: what lay under its name was trained with other settings"]
    assert not (folder / NETWORK_FILE).exists()
    list(events)
    assert repeatable(read_trial(folder)) == repeatable(read_trial(recorded[0]))
    assert read_trial(folder).record.attempts == 1


def test_a_trial_goes_on_where_data_and_weights_have_moved(shapes_file, tiny_trial, tmp_path):
    first, second = (moved(tiny_trial, tmp_path / name, shapes_file) for name in ("one", "two"))
    interrupt(first, tmp_path / "t")
    changes = {"activation_checkpointing": True, "collapse": second.collapse.model_copy(update={"points": 99.0})}
    events = start(second.model_copy(update=changes), tmp_path / "t", epochs=0)
    assert next(events).epoch == 2


def interrupt(settings: TrialSettings, folder) -> None:
    """Leaves a checkpoint after the first epoch."""
    with pytest.raises(KeyboardInterrupt):
        start(settings, folder, epochs=3, on_progress=stop_in_epoch_2(KeyboardInterrupt()))


def moved(settings: TrialSettings, folder, weights: bytes) -> TrialSettings:
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(weights)
    data = settings.data.model_copy(update={"root": folder, "download": True})
    return settings.model_copy(update={"data": data, "weights": str(folder / "weights.safetensors")})


@pytest.fixture
def shapes_file(recorded) -> bytes:
    """A network to begin from."""
    return (recorded[0] / NETWORK_FILE).read_bytes()


@pytest.mark.parametrize("torn", ["trial.json", "epochs.parquet"])
def test_a_torn_file_costs_epochs_at_most(recorded, tiny_trial, tmp_path, torn):
    kill_between_row_and_state(tiny_trial, tmp_path / "t")
    (tmp_path / "t" / torn).write_bytes(b"half")
    *rows, _ = record(tiny_trial, tmp_path / "t")
    # Rows that are lost are trained again, with the state that they led to.
    assert [row.epoch for row in rows] == ([1, 2] if torn == "epochs.parquet" else [2])
    assert repeatable(read_trial(tmp_path / "t")) == repeatable(read_trial(recorded[0]))


def test_a_folder_that_cannot_be_written_is_one_line(tiny_trial, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResultsError) as caught:
        record(tiny_trial, tmp_path / "file" / "t")
    assert str(caught.value).startswith(f"{tmp_path}/file/t: must be a folder to write to, got: Not a directory; ")


@pytest.fixture(scope="module")
def run_with_baseline(recorded, tiny_trial, tmp_path_factory):
    """A run directory that holds the baseline "base", trained for real."""
    run = tmp_path_factory.mktemp("run")
    settings = tiny_trial.model_copy(update={"explanation": Explanation()})
    record(settings, run / "baselines" / "base", Identity(id="base", role="baseline"))
    return run


def test_a_moved_run_still_finds_its_start_network_and_its_baseline(run_with_baseline, tiny_trial, tmp_path):
    run = tmp_path / "moved" / "elsewhere"
    shutil.copytree(run_with_baseline, run)
    recipe = tiny_trial.recipe.model_copy(update={"epochs": 1, "lr": 1e-30})
    settings = tiny_trial.model_copy(update={"weights": f"{START}base", "recipe": recipe})
    record(settings, run / "trials" / "t", Identity(id="t", baseline="base"))
    start_network, network = (load_file(run / place / NETWORK_FILE) for place in ("baselines/base", "trials/t"))
    assert torch.equal(network["stages.0.0.weight"], start_network["stages.0.0.weight"])
    assert read_trial(run / "trials" / "t").record.settings["weights"] == "start:base"


def test_a_trial_is_compared_with_its_baselines_epochs(run_with_baseline, tiny_trial, tmp_path):
    shutil.copytree(run_with_baseline, tmp_path, dirs_exist_ok=True)
    baseline = read_trial(tmp_path / "baselines" / "base")
    rows = [EpochRow(**row) for row in baseline.epochs().to_pylist()]
    write_epochs(baseline.folder, [replace(row, accuracy_points=100.0) for row in rows])
    *_, ended = record(tiny_trial, tmp_path / "trials" / "t", Identity(id="t", baseline="base"))
    assert ended.reason.endswith("points under the baseline's in epoch 2")
    assert read_trial(tmp_path / "trials" / "t").record.status == "collapsed"


def test_a_missing_start_network_is_one_line_and_a_failure(tiny_trial, tmp_path):
    settings = tiny_trial.model_copy(update={"weights": f"{START}gone"})
    with pytest.raises(ResultsError, match=r"baselines/gone: must be a trial directory .*, got no folder"):
        record(settings, tmp_path / "trials" / "t")
    assert read_trial(tmp_path / "trials" / "t").record.status == "failed"


def test_a_trial_is_compared_with_what_its_baseline_reaches_beside_it(run_with_baseline, tiny_trial, tmp_path):
    rows = [EpochRow(**row) for row in read_trial(run_with_baseline / "baselines" / "base").epochs().to_pylist()]
    steep = [replace(row, accuracy_points=100.0) for row in rows]
    recipe = tiny_trial.recipe.model_copy(update={"epochs": 3})
    events = start_beside(tiny_trial.model_copy(update={"recipe": recipe}), tmp_path)
    # It has not begun; then it is at its first epoch, to which the trial's second is compared.
    assert next(events).epoch == 1
    write_epochs(tmp_path / "baselines" / "base", steep[:1])
    assert next(events).epoch == 2
    (ended,) = events
    assert ended.reason.endswith("points under the baseline's in epoch 2")
    # What its end was decided by.
    assert read_trial(tmp_path / "trials" / "t").record.baseline_epochs == 1


def test_a_trial_that_goes_on_is_compared_where_it_was_ahead_of_its_baseline(run_with_baseline, tiny_trial, tmp_path):
    rows = [EpochRow(**row) for row in read_trial(run_with_baseline / "baselines" / "base").epochs().to_pylist()]
    recipe = tiny_trial.recipe.model_copy(update={"epochs": 6})
    settings = tiny_trial.model_copy(update={"recipe": recipe})
    events = start_beside(settings, tmp_path)
    assert [next(events).epoch for _ in range(3)] == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)
    # Good once, and never since: only the trial's second epoch is far under it.
    write_epochs(tmp_path / "baselines" / "base", [replace(rows[0], accuracy_points=100.0)])
    *_, ended = start_beside(settings, tmp_path)
    assert ended.reason.endswith("points under the baseline's in epoch 2")
    assert read_trial(tmp_path / "trials" / "t").record.epochs_done == 3


def start_beside(settings, run, tell=None):
    identity = Identity(id="t", baseline="base")
    return record_trial(settings, run / "trials" / "t", identity, device=CPU, on_notice=tell)


def test_a_baseline_that_cannot_be_read_is_told_once_and_the_trial_goes_on(run_with_baseline, tiny_trial, tmp_path):
    shutil.copytree(run_with_baseline, tmp_path, dirs_exist_ok=True)
    table = tmp_path / "baselines" / "base" / "epochs.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    told = []
    *_, ended = start_beside(tiny_trial, tmp_path, told.append)
    assert ended.status == "finished"
    (line,) = told
    assert line.startswith(f"not compared with its baseline for now: {table}: ")


def test_a_baseline_that_has_been_through_its_epochs_is_read_no_more(run_with_baseline, tmp_path):
    shutil.copytree(run_with_baseline / "baselines" / "base", tmp_path / "base")
    table = tmp_path / "base" / "epochs.parquet"
    reached = Reference(tmp_path / "base", UNHEARD, epochs=2)
    known = reached()
    table.unlink()
    assert reached() == known
    assert len(known) == 2
    assert Reference(tmp_path / "base", UNHEARD, epochs=2)() == []


def test_checkpoints_that_are_torn_are_told_by_name(tiny_trial, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        start(tiny_trial, tmp_path / "t", epochs=3, on_progress=stop_in_epoch_2(KeyboardInterrupt()))
    (only,) = (tmp_path / "t" / "checkpoint").iterdir()
    only.write_bytes(b"half")
    lines: list[str] = []
    identity = Identity(id="t")
    assert len(list(record_trial(tiny_trial, tmp_path / "t", identity, device=CPU, on_notice=lines.append))) == 3
    assert lines == [f"begins anew: no checkpoint in {tmp_path}/t/checkpoint is whole"]


def test_a_trial_that_computes_shows_that_it_is_alive(tiny_trial, tmp_path, monkeypatch):
    changed = []
    monkeypatch.setattr("gcc_search.keeper.BEAT_SECONDS", 0.0)

    def on_progress(state):
        if (state.phase, state.epoch) == ("train", 1):
            changed.append((tmp_path / "t" / "trial.json").stat().st_mtime_ns)

    start(tiny_trial, tmp_path / "t", epochs=1, on_progress=on_progress)
    assert len(set(changed)) == len(changed) == 4


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), "memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), "memory"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (RuntimeError("CUDA error: unspecified launch failure"), "crash"),
        (OSError(errno.EIO, "Input/output error"), "crash"),
        (DiskError("trial.json: must be writable, got: Input/output error"), "crash"),
        (ValueError("shapes differ"), "error"),
        (DataError("images: must be there"), "crash"),
        (WeightsError("weights: must be there"), "crash"),
        (ResultsError("folder: must be writable"), "error"),
    ],
)
def test_a_failure_is_of_memory_of_the_machine_or_of_the_trial(error, kind):
    assert failure_kind(error) == kind


def test_a_tensor_that_no_memory_holds_is_a_failure_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert failure_kind(caught.value) == "memory"


def test_what_a_killed_attempt_left_half_written_goes_when_the_next_one_begins(tiny_trial, tmp_path):
    half = tmp_path / "t" / ".images.parquet.0.tmp"
    half.parent.mkdir()
    half.write_bytes(b"PAR1")
    next(record_trial(tiny_trial, half.parent, Identity(id="t"), device=CPU))
    assert not half.exists()


def test_images_that_are_others_than_the_search_began_with_are_refused(tiny_trial, tmp_path):
    with pytest.raises(DataError, match="images of shapes must be those the search began with, got others"):
        next(record_trial(tiny_trial, tmp_path / "t", Identity(id="t"), device=CPU, fingerprint="others"))
    assert read_trial(tmp_path / "t").record.status == "failed"
