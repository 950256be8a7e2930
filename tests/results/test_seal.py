import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gcc_search.errors import ResultsError
from gcc_search.results.schema import EPOCHS, IMAGES, SINCE_2
from gcc_search.results.seal import KEY, TAIL_BYTES, ends_are_whole, is_whole, read_sealed, sealed_parquet
from gcc_search.results.tables import check_table, read_table
from gcc_search.results.writer import write_epochs

SMALL = pa.table({"a": [0.5, 1.5, None], "b": ["x", "y", f"{KEY}={'0' * 64}"]})


def test_a_sealed_file_is_whole_and_holds_the_table():
    content = sealed_parquet(SMALL)
    assert is_whole(content)
    assert read_sealed(content) == SMALL


def test_reading_a_table_starts_no_thread():
    script = """
import os, sys
import pyarrow.parquet
from gcc_search.results.seal import read_sealed
before = len(os.listdir("/proc/self/task"))
table = read_sealed(sys.stdin.buffer.read())
print(table.num_rows, len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", script], input=sealed_parquet(SMALL), capture_output=True, check=True)
    assert done.stdout.split() == [b"3", b"0"]


def test_any_parquet_reader_opens_a_sealed_file(tmp_path):
    (tmp_path / "small.parquet").write_bytes(sealed_parquet(SMALL))
    assert pq.read_table(tmp_path / "small.parquet") == SMALL


def test_equal_tables_have_equal_bytes():
    assert sealed_parquet(SMALL) == sealed_parquet(SMALL)


def test_every_single_bit_flip_is_told():
    content = sealed_parquet(SMALL)
    slipped = [
        (index, bit)
        for index in range(len(content))
        for bit in range(8)
        if is_whole(content[:index] + bytes([content[index] ^ (1 << bit)]) + content[index + 1 :])
    ]
    assert slipped == []


def test_a_file_cut_anywhere_or_grown_is_told():
    content = sealed_parquet(SMALL)
    assert not any(is_whole(content[:length]) for length in range(len(content)))
    assert not is_whole(content + b"\0")


def test_a_file_without_a_seal_is_not_whole():
    sink = pa.BufferOutputStream()
    pq.write_table(SMALL.select(["a"]), sink)
    assert not is_whole(sink.getvalue().to_pybytes())


def look_at_ends(content: bytes) -> bool:
    return ends_are_whole(content[:4], content[-TAIL_BYTES:], len(content))


@pytest.fixture(scope="module")
def long_file() -> bytes:
    """Twice as long as what is looked at."""
    content = sealed_parquet(pa.table({"a": np.random.default_rng(0).random(TAIL_BYTES // 4)}))
    assert len(content) > 2 * TAIL_BYTES
    return content


def test_a_long_files_ends_say_that_it_is_whole(long_file):
    assert look_at_ends(long_file)


def test_ends_tell_a_long_file_that_was_cut_grown_or_zeroed_at_an_end(long_file):
    size = len(long_file)
    torn = [long_file[:length] for length in (*range(size - 200, size), size // 2, TAIL_BYTES + 1)]
    torn += [long_file + b"\0", b"\0" * 4 + long_file[4:], long_file[:-512] + b"\0" * 512, b"\0" * size]
    assert not any(map(look_at_ends, torn))


def test_ends_tell_a_long_file_of_others():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(TAIL_BYTES)}), sink)
    assert not look_at_ends(sink.getvalue().to_pybytes())


def test_of_a_short_file_every_changed_byte_is_told_by_its_ends():
    content = sealed_parquet(SMALL)
    assert look_at_ends(content)
    assert not any(look_at_ends(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]) for i in range(len(content)))


def test_a_torn_table_is_refused_by_name(tmp_path, epoch_rows):
    write_epochs(tmp_path, epoch_rows)
    path = tmp_path / "epochs.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ResultsError, match=r"epochs.parquet: must be whole Parquet, got a torn or changed file"):
        read_table(path, EPOCHS)


def test_a_table_with_a_flipped_bit_is_refused_even_where_only_another_column_is_read(tmp_path, epoch_rows):
    write_epochs(tmp_path, epoch_rows)
    path = tmp_path / "epochs.parquet"
    content = bytearray(path.read_bytes())
    content[30] ^= 4
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="torn or changed"):
        read_table(path, EPOCHS, ["pointing"])


def test_a_table_of_another_kind_is_refused(tmp_path, epoch_rows):
    write_epochs(tmp_path, epoch_rows)
    with pytest.raises(ResultsError, match=r"epochs.parquet: columns must be those of schema version 2, got others"):
        read_table(tmp_path / "epochs.parquet", IMAGES)


@pytest.mark.parametrize(("metadata", "got"), [({"gcc_search.schema_version": "3"}, "3"), ({}, "None")])
def test_a_table_of_another_schema_version_is_refused(tmp_path, metadata, got):
    table = EPOCHS.with_metadata(metadata).empty_table()
    (tmp_path / "epochs.parquet").write_bytes(sealed_parquet(table))
    with pytest.raises(ResultsError, match=rf"schema_version must be 1 or 2, got {got}; "):
        read_table(tmp_path / "epochs.parquet", EPOCHS)
    with pytest.raises(ResultsError, match=rf"schema_version must be 1 or 2, got {got}; "):
        check_table(tmp_path / "epochs.parquet")


def test_a_table_that_is_there_and_whole_passes(tmp_path, epoch_rows):
    write_epochs(tmp_path, epoch_rows)
    check_table(tmp_path / "epochs.parquet")


def test_a_table_that_is_missing_is_told(tmp_path):
    with pytest.raises(ResultsError, match="must exist, got nothing; the trial has not written it"):
        check_table(tmp_path / "images.parquet")


@pytest.mark.parametrize("columns", [None, ["index", "moved_correct", "gini"]])
def test_columns_that_version_1_had_not_yet_are_read_without_values(tmp_path, tiny_run, columns):
    whole = read_table(tiny_run / "trials/t1/images.parquet", IMAGES)
    older = whole.drop_columns(list(SINCE_2)).replace_schema_metadata({"gcc_search.schema_version": "1"})
    (tmp_path / "images.parquet").write_bytes(sealed_parquet(older))
    found = read_table(tmp_path / "images.parquet", IMAGES, columns)
    assert found.column_names == (columns or IMAGES.names)
    assert found["gini"] == whole["gini"]
    assert found["moved_correct"].null_count == len(whole)


@pytest.mark.parametrize("missing", ["gini", "moved_correct"])
def test_a_column_that_its_version_had_is_missed(tmp_path, tiny_run, missing):
    whole = read_table(tiny_run / "trials/t1/images.parquet", IMAGES)
    (tmp_path / "images.parquet").write_bytes(sealed_parquet(whole.drop_columns([missing])))
    for columns in (None, ["index", missing]):
        with pytest.raises(ResultsError, match="columns must be those of schema version 2, got others"):
            read_table(tmp_path / "images.parquet", IMAGES, columns)
