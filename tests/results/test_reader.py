import errno
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from gcc_search.atomic import sha256
from gcc_search.errors import DiskError, ResultsError
from gcc_search.results.files import REDO, read_json
from gcc_search.results.reader import find_damage, is_finished_whole, network_problem, read_run, read_trial
from gcc_search.results.schema import EPOCHS, NETWORK_FILE
from gcc_search.results.seal import sealed_parquet
from gcc_search.results.writer import write_epochs, write_images, write_json, write_run, write_trial


def test_a_trial_is_read_as_it_was_written(tmp_path, trial_record, epoch_rows):
    write_trial(tmp_path / "t1", trial_record)
    write_epochs(tmp_path / "t1", epoch_rows)
    trial = read_trial(tmp_path / "t1")
    assert trial.record == trial_record
    assert trial.epochs().to_pylist() == [row.to_dict() for row in epoch_rows]


def test_a_table_that_tells_of_a_column_in_other_words_is_read_with_the_values_it_did_not_have(
    tmp_path, trial_record, image_columns
):
    write_trial(tmp_path, trial_record)
    values = image_columns | {"box_mass": np.array([0.25, np.nan, 0.75])}
    write_images(tmp_path, values)
    table = read_trial(tmp_path).images()
    place = table.column_names.index("box_mass")
    told = {"meaning": "as once defined", "missing": "the image has no box, or its map is empty"}
    older = table.schema.set(place, table.schema.field(place).with_metadata(told))
    (tmp_path / "images.parquet").write_bytes(sealed_parquet(table.cast(older)))
    assert read_trial(tmp_path).images()["box_mass"].to_pylist() == [0.25, None, 0.75]


def test_a_run_is_read_with_its_trials_in_order_and_its_baselines_by_key(tmp_path, run_record, trial_record):
    write_run(tmp_path, run_record)
    for name in ("t2", "t10", "t1"):
        write_trial(tmp_path / "trials" / name, replace(trial_record, id=name))
    write_trial(tmp_path / "baselines/base", replace(trial_record, id="base", role="baseline", baseline=None))
    run = read_run(tmp_path)
    assert run.record == run_record
    assert [trial.record.id for trial in run.trials] == ["t1", "t10", "t2"]
    assert list(run.baselines) == ["base"]
    assert run.problems == ()


def test_a_run_that_has_just_begun_has_no_trials(tmp_path, run_record):
    write_run(tmp_path, run_record)
    assert read_run(tmp_path).trials == ()


def test_a_trial_before_its_first_epoch_has_no_rows(tmp_path, trial_record):
    write_trial(tmp_path, trial_record)
    assert read_trial(tmp_path).epochs() == EPOCHS.empty_table()


def test_a_trial_that_the_system_refuses_is_a_matter_of_the_disk(tmp_path):
    with pytest.raises(
        DiskError, match=r"/trial\.json: must be readable, got: File name too long; check its owner and"
    ):
        read_trial(tmp_path / ("x" * 300))


def test_trials_that_may_not_be_listed_are_not_taken_for_none(tmp_path, run_record, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    write_run(tmp_path, run_record)
    (tmp_path / "trials").mkdir()
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DiskError, match="trials: must be readable, got: Permission denied"):
        read_run(tmp_path)


def test_a_folder_that_the_system_does_not_show_is_one_refused_file(tmp_path, run_record, trial_record, monkeypatch):
    is_dir = Path.is_dir

    def look(path):
        if path.name == "t2":
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return is_dir(path)

    write_run(tmp_path, run_record)
    for name in ("t1", "t2"):
        write_trial(tmp_path / "trials" / name, replace(trial_record, id=name))
    (tmp_path / "trials/t2/trial.json").unlink()
    monkeypatch.setattr(Path, "is_dir", look)
    run = read_run(tmp_path)
    assert [trial.record.id for trial in run.trials] == ["t1"]
    assert "t2" in run.problems[0]


def test_images_that_were_not_scored_are_said_to_be_missing(tmp_path, trial_record):
    write_trial(tmp_path, trial_record)
    with pytest.raises(ResultsError, match=r"images.parquet: must exist, got nothing; the trial has not written it"):
        read_trial(tmp_path).images()


def test_one_column_can_be_read_alone(tmp_path, trial_record, image_columns):
    write_trial(tmp_path, trial_record)
    write_images(tmp_path, image_columns)
    table = read_trial(tmp_path).images(["gini"])
    assert table.to_pydict() == {"gini": [0.25, 0.5, 0.75]}
    assert table.schema.field("gini").metadata[b"unit"] == b"0 to 1"


def test_a_folder_that_was_renamed_is_named(tmp_path, run_record, trial_record):
    write_run(tmp_path, run_record)
    write_trial(tmp_path / "trials/other", trial_record)
    run = read_run(tmp_path)
    assert run.trials == ()
    rule = "id must be the folder's name, got that of t1; was the folder renamed?"
    assert run.problems == (f"{tmp_path}/trials/other/trial.json: {rule}",)


def test_a_hidden_folder_is_a_copy_under_way(tmp_path, run_record, trial_record):
    write_run(tmp_path, run_record)
    write_trial(tmp_path / "trials/.t1.0123.tmp", trial_record)
    assert (read_run(tmp_path).trials, read_run(tmp_path).problems) == ((), ())


@pytest.fixture
def finished(tmp_path, trial_record, epoch_rows, image_columns):
    """A finished trial with its tables and a network that its record knows."""
    folder = tmp_path / "t1"
    folder.mkdir()
    (folder / NETWORK_FILE).write_bytes(b"weights")
    write_epochs(folder, epoch_rows)
    write_images(folder, image_columns)
    write_trial(folder, replace(trial_record, network_sha256=sha256(b"weights")))
    return read_trial(folder)


def test_a_trial_as_it_was_written_is_whole(finished):
    assert is_finished_whole(finished)
    assert (find_damage(finished), network_problem(finished)) == ([], None)


def test_another_network_than_the_record_knows_is_damage(finished):
    (finished.folder / NETWORK_FILE).write_bytes(b"weightz")
    told = f"{finished.folder}/{NETWORK_FILE}: must be as it was written, got other bytes; {REDO}"
    assert (find_damage(finished), network_problem(finished)) == ([told], told)
    assert not is_finished_whole(finished)


def test_a_network_that_is_left_out_is_no_damage_and_yet_not_whole(finished):
    (finished.folder / NETWORK_FILE).unlink()
    assert find_damage(finished) == []
    assert not is_finished_whole(finished)


def test_a_trial_that_did_not_finish_is_not_whole(finished):
    write_trial(finished.folder, replace(finished.record, status="stopped"))
    assert not is_finished_whole(read_trial(finished.folder))


def test_a_finished_trial_without_a_row_is_damaged(finished):
    write_epochs(finished.folder, [])
    assert find_damage(finished) == [f"{finished.folder}: must have a row for each epoch, got none; {REDO}"]


def test_a_torn_trial_is_named_and_the_others_are_read(tmp_path, run_record, trial_record):
    write_run(tmp_path, run_record)
    for name in ("t1", "t2"):
        write_trial(tmp_path / "trials" / name, replace(trial_record, id=name))
    (tmp_path / "trials/t1/trial.json").write_text("{")
    (tmp_path / "trials/t3").mkdir()
    run = read_run(tmp_path)
    assert [trial.record.id for trial in run.trials] == ["t2"]
    torn, missing = run.problems
    assert torn.startswith(f"{tmp_path}/trials/t1/trial.json: must be whole JSON")
    assert missing.startswith(f"{tmp_path}/trials/t3: must be a trial directory (with a trial.json), got a folder ")


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_a_record_of_another_schema_version_is_refused(tmp_path, run_record, version):
    write_json(tmp_path / "run.json", asdict(run_record) | {"schema_version": version})
    with pytest.raises(ResultsError, match=rf"run.json: schema_version must be 1 or 2, got {version}; read it with"):
        read_run(tmp_path)


def test_a_trial_of_another_schema_version_is_named_and_the_others_are_read(tmp_path, run_record, trial_record):
    write_run(tmp_path, run_record)
    for name in ("t1", "t2"):
        write_trial(tmp_path / "trials" / name, replace(trial_record, id=name))
    write_json(tmp_path / "trials/t1/trial.json", asdict(trial_record) | {"schema_version": 3})
    run = read_run(tmp_path)
    assert [trial.record.id for trial in run.trials] == ["t2"]
    (problem,) = run.problems
    assert problem.startswith(f"{tmp_path}/trials/t1/trial.json: schema_version must be 1 or 2, got 3; ")


def test_how_many_trials_are_read_is_told(tmp_path, run_record, trial_record):
    write_run(tmp_path, run_record)
    for name in ("t1", "t2"):
        write_trial(tmp_path / "trials" / name, replace(trial_record, id=name))
    told = []
    read_run(tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_a_record_that_lacks_a_field_is_refused(tmp_path, run_record):
    content = asdict(run_record)
    del content["seed"]
    write_json(tmp_path / "run.json", content)
    with pytest.raises(ResultsError, match=r"run.json: must have every field of a RunRecord, got: .*'seed'"):
        read_run(tmp_path)


def test_a_field_of_a_later_writer_is_ignored(tmp_path, run_record):
    write_json(tmp_path / "run.json", asdict(run_record) | {"weather": "fine"})
    assert read_run(tmp_path).record == run_record


@pytest.mark.parametrize(("name", "got"), [("nowhere", "no folder"), ("", "a folder without one")])
def test_what_is_no_run_directory_is_told_apart(tmp_path, name, got):
    with pytest.raises(ResultsError, match=rf"must be a run directory \(with a run.json\), got {got}; "):
        read_run(tmp_path / name)


def test_a_folder_where_a_file_should_be_is_refused(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ResultsError, match=r"run.json: must be readable, got: Is a directory"):
        read_run(tmp_path)


def test_json_cut_anywhere_is_refused(tmp_path, trial_record):
    write_trial(tmp_path, trial_record)
    path = tmp_path / "trial.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ResultsError, match=r"trial\.json: "):
            read_json(path)


def test_json_with_any_single_bit_flipped_is_refused_or_says_the_same(tmp_path):
    """Refused, but for the `e` of 1e-05, which as `E` says the same number."""
    path = tmp_path / "a.json"
    write_json(path, {"beta": 1e-5, "id": "t1", "box_mass": None})
    whole, expected = path.read_bytes(), read_json(path)
    assert [changed for changed in _flips(whole) if _reads_the_same(path, changed, expected)] == [
        whole.replace(b"1e-05", b"1E-05")
    ]


def _flips(whole: bytes):
    for index in range(len(whole)):
        for bit in range(8):
            yield whole[:index] + bytes([whole[index] ^ (1 << bit)]) + whole[index + 1 :]


def _reads_the_same(path: Path, content: bytes, expected: object) -> bool:
    path.write_bytes(content)
    try:
        found = read_json(path)
    except ResultsError:
        return False
    assert found == expected
    return True


@pytest.mark.parametrize("text", ["[1]", "3", '{"a": 1}', "", "[" * 100_000, "\xff"])
def test_json_of_others_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(ResultsError, match=r"run.json: "):
        read_json(tmp_path / "run.json")


def test_nobody_is_told_to_delete_a_whole_run_for_its_record(tmp_path, run_record, trial_record):
    write_run(tmp_path, run_record)
    write_trial(tmp_path / "trials/t1", trial_record)
    whole = (tmp_path / "run.json").read_text()
    for content in (whole[:-9], whole.replace(run_record.name, "other")):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(ResultsError, match="; copy it again from where it is whole; keep its folder"):
            read_run(tmp_path)
    (tmp_path / "trials/t1/trial.json").write_text("{")
    with pytest.raises(ResultsError, match=f"; {REDO}"):
        read_trial(tmp_path / "trials/t1")


def test_a_run_in_the_place_of_a_trial_is_told_as_one(tmp_path, run_record):
    write_run(tmp_path, run_record)
    with pytest.raises(ResultsError, match=r"must be a trial directory .*, got a whole run; name one of its trials"):
        read_trial(tmp_path)
