"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from gcc_search.atomic import copy_tree, fetch, followed, is_for_want_of_room, sha256, write_atomically
from gcc_search.errors import ResultsError


def test_content_is_written_into_folders_that_do_not_exist_yet(tmp_path):
    write_atomically(tmp_path / "a" / "b.bin", b"one")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"one"


def test_content_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "b.bin", b"a longer first content")
    write_atomically(tmp_path / "b.bin", b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b.bin", b"two")]


def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ResultsError) as caught:
        write_atomically(tmp_path / "taken", b"content")
    way_out = "free space or choose another place"
    assert str(caught.value) == f"{tmp_path}/taken: must be writable, got: Is a directory; {way_out}"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path):
    # A limit on the size of files fails as a full disk does: in the middle of a write.
    code = f"""
        import resource, signal
        from pathlib import Path
        from gcc_search.atomic import write_atomically
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        path = Path({str(tmp_path)!r}, "b.bin")
        write_atomically(path, b"old")
        try:
            write_atomically(path, bytes(2000))
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    way_out = "free space or choose another place"
    assert done.stdout == f"DiskError {tmp_path}/b.bin: must be writable, got: File too large; {way_out}\n"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b.bin", b"old")]


def test_a_reader_sees_an_old_or_a_new_file_and_so_does_who_comes_after_a_kill(tmp_path):
    path, contents = tmp_path / "b.bin", (bytes(1_000_000), b"\1" * 1_000_000)
    code = f"""
        from pathlib import Path
        from gcc_search.atomic import write_atomically
        path = Path({str(path)!r})
        write_atomically(path, bytes(1_000_000))
        print(flush=True)
        while True:
            for value in (1, 0):
                write_atomically(path, bytes([value]) * 1_000_000)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        seen = {path.read_bytes() for _ in range(300)}
        os.kill(process.pid, signal.SIGKILL)
    assert seen <= set(contents)
    assert path.read_bytes() in contents


def test_a_copy_of_a_folder_takes_the_place_of_what_was_there(tmp_path):
    (tmp_path / "from/deep").mkdir(parents=True)
    (tmp_path / "from/deep/new.bin").write_bytes(b"new")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/old.bin").write_bytes(b"old")
    copy_tree(tmp_path / "from", tmp_path / "to")
    there = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert sorted(there) == ["from", "from/deep", "from/deep/new.bin", "to", "to/deep", "to/deep/new.bin"]


def test_a_copy_of_a_folder_for_which_there_is_no_room_leaves_nothing_behind(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from/large.bin").write_bytes(bytes(2000))
    code = f"""
        import resource, signal
        from pathlib import Path
        from gcc_search.atomic import copy_tree
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            copy_tree(Path({str(tmp_path)!r}, "from"), Path({str(tmp_path)!r}, "to"))
        except Exception as error:
            print(type(error).__name__)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "DiskError\n"
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_a_full_share_of_a_disk_is_a_full_disk(number, expected):
    assert is_for_want_of_room(OSError(number, os.strerror(number))) == expected


class Asked:
    """Who follows a folder, and is asked for files of it."""

    def __init__(self) -> None:
        self.paths = []

    def fetch(self, paths) -> None:
        self.paths += paths


def test_each_folder_is_fetched_from_by_who_follows_it(tmp_path):
    first, second = Asked(), Asked()
    paths = [tmp_path / name for name in ("a/1", "b/2", "c/3", "a/4")]
    with followed(tmp_path / "a", first), followed(tmp_path / "b", second):
        fetch(paths)
    assert (first.paths, second.paths) == ([paths[0], paths[3]], [paths[1]])


def test_a_digest_is_sha256_in_hex():
    assert sha256(b"abc") == hashlib.sha256(b"abc").hexdigest()
