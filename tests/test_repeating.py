"""`gcc-search train --like TRIAL`: a trial of a search, trained again alone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from gcc_search.errors import DataError, ResultsError
from gcc_search.repeating import read_original
from gcc_search.results.reader import Trial, read_run, read_trial
from gcc_search.results.writer import write_trial
from gcc_search.single import train_one

TIMING = ("train_seconds", "evaluation_seconds", "peak_memory_bytes")


@pytest.fixture(scope="module")
def trial(tiny_search) -> Trial:
    result, _ = tiny_search
    return next(trial for trial in read_run(result.run).trials if trial.record.status == "finished")


@pytest.fixture
def copied(trial, tmp_path) -> Trial:
    """The same trial in a copy of its run, for tests that break something."""
    shutil.copytree(trial.folder.parent.parent, tmp_path / "copied")
    return read_trial(tmp_path / "copied/trials" / trial.folder.name)


def train_like(folder, out, **changes):
    original = read_original(folder, **changes)
    command = "gcc-search train"
    run, _ = train_one(original.settings, out=out, name="again", device="cpu", command=command, like=original)
    return run


def result_of(trial: Trial) -> tuple[object, ...]:
    """All but seconds, bytes and dates."""
    rows = trial.epochs().drop_columns(TIMING).to_pylist()
    weights = (trial.folder / "network.safetensors").read_bytes()
    record = trial.record
    return record.id, record.settings, record.sampled, record.test, rows, trial.images().to_pylist(), weights


def test_a_trial_of_a_search_is_repeated_bit_for_bit(trial, tmp_path):
    run = read_run(train_like(trial.folder, tmp_path))
    (again,) = run.trials
    assert result_of(again) == result_of(trial)


def test_it_is_repeated_with_the_threads_it_had(trial, tmp_path):
    assert trial.record.threads is not None
    asked = torch.get_num_threads()
    torch.set_num_threads(trial.record.threads + 1)
    try:
        train_like(trial.folder, tmp_path)
        assert torch.get_num_threads() == trial.record.threads
    finally:
        torch.set_num_threads(asked)


def test_the_new_run_stands_alone(copied, tmp_path):
    first = train_like(copied.folder, tmp_path / "out")
    shutil.rmtree(tmp_path / "copied")
    assert read_run(first).baselines[copied.record.baseline].record.status == "finished"
    (again,) = read_run(train_like(first / "trials" / copied.record.id, tmp_path / "out2")).trials
    assert result_of(again) == result_of(read_run(first).trials[0])


def test_what_a_single_training_saw_is_in_its_run(trial, tmp_path):
    (images,) = read_run(train_like(trial.folder, tmp_path)).record.data
    assert images == read_run(trial.folder.parent.parent).record.data[0]


def test_a_folder_without_a_trial_is_one_line(tmp_path):
    with pytest.raises(ResultsError) as caught:
        read_original(tmp_path / "none")
    rule = "must be a trial directory (with a trial.json), got no folder; see ls RUN/trials"
    assert str(caught.value) == f"{tmp_path}/none: {rule}"


def test_without_the_network_it_started_from_a_trial_cannot_be_repeated(copied):
    start = copied.folder.parent.parent / "baselines" / copied.record.settings["weights"].removeprefix("start:")
    (start / "network.safetensors").unlink()
    with pytest.raises(ResultsError, match=r"must hold the network that .* started from, got nothing whole there"):
        read_original(copied.folder)


def test_a_trial_without_its_baseline_is_repeated_without_it(copied):
    shutil.rmtree(copied.folder.parent.parent / "baselines" / copied.record.baseline)
    assert read_original(copied.folder).identity.baseline is None


def test_other_images_are_refused_and_nothing_is_left(copied, tmp_path):
    write_trial(copied.folder, replace(copied.record, data_fingerprint="other"))
    with pytest.raises(DataError, match=r"images must be those it was trained on, got others .* --data-root"):
        train_like(copied.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_of_another_version_are_refused_by_name(copied):
    write_trial(copied.folder, replace(copied.record, settings=copied.record.settings | {"gamma": 1}))
    with pytest.raises(ResultsError, match=r"trial.json: settings: gamma: unknown key; "):
        read_original(copied.folder)


def test_images_may_have_moved(copied, tmp_path):
    assert read_original(copied.folder, data_root=tmp_path).settings.data.root == tmp_path
