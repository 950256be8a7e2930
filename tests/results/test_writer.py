import json
import subprocess
import sys

import numpy as np
import pytest

from gcc_search.errors import ResultsError
from gcc_search.results.files import read_json
from gcc_search.results.reader import read_trial
from gcc_search.results.writer import write_epochs, write_images, write_json, write_trial


def test_json_comes_back_equal(tmp_path):
    content = {"number": 0.1 + 0.2, "none": None, "text": "é\n", "list": [1, 2], "nested": {"b": 1, "a": 2}}
    write_json(tmp_path / "a.json", content)
    found = read_json(tmp_path / "a.json")
    assert {key: found[key] for key in content} == content


def test_not_a_number_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_the_old_file_and_leaves_nothing_else(tmp_path, epoch_rows):
    write_epochs(tmp_path, epoch_rows[:1])
    write_epochs(tmp_path, epoch_rows)
    assert [path.name for path in tmp_path.iterdir()] == ["epochs.parquet"]


def test_a_write_onto_a_folder_fails_and_leaves_nothing_behind(tmp_path, trial_record, leftovers):
    (tmp_path / "trial.json/in_the_way").mkdir(parents=True)
    with pytest.raises(ResultsError, match=r"trial.json: must be writable, got: .*directory"):
        write_trial(tmp_path, trial_record)
    assert leftovers() == []


def test_a_write_below_a_file_fails_and_leaves_nothing_behind(tmp_path, trial_record, leftovers):
    (tmp_path / "t1").write_text("a file")
    with pytest.raises(ResultsError, match=r"trial.json: must be writable, got: "):
        write_trial(tmp_path / "t1", trial_record)
    assert leftovers() == []


FILL_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from gcc_search.errors import ResultsError
from gcc_search.results.writer import write_json
path = Path(sys.argv[1])
write_json(path, {"a": "old"})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_json(path, {"a": "new" * 10_000})
except ResultsError as error:
    print(error)
"""


def test_a_write_that_runs_out_of_space_keeps_the_old_file(tmp_path):
    """The kernel refuses bytes beyond a limit on the file's size, halfway through the write."""
    path = tmp_path / "a.json"
    done = subprocess.run([sys.executable, "-c", FILL_THE_DISK, path], capture_output=True, text=True, check=True)
    assert "a.json: must be writable, got: File too large" in done.stdout
    assert read_json(path)["a"] == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_measure_is_null_and_a_measure_that_cannot_be_missing_is_kept(tmp_path, trial_record, image_columns):
    write_trial(tmp_path, trial_record)
    write_images(tmp_path, image_columns | {"iauc": np.array([0.5, np.nan, 0.25])})
    images = read_trial(tmp_path).images(["iauc", "gini"])
    assert images.to_pydict() == {"iauc": [0.5, None, 0.25], "gini": [0.25, 0.5, 0.75]}


def test_a_missing_column_is_an_error(tmp_path, image_columns):
    del image_columns["gini"]
    with pytest.raises(KeyError, match="gini"):
        write_images(tmp_path, image_columns)


def test_the_checksum_does_not_depend_on_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1, "b": 2})
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert read_json(tmp_path / "a.json")["b"] == 2
