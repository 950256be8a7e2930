"""What holds a search for an actor that Ray may kill: without Ray, on commands that say what they are told."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gcc_search.search import tether

# Says who it is; once it is asked to end, writes that down and says a last word.
WAITING = """
import os, signal, sys, time
def end(*_):
    open(sys.argv[1], "w").write("ended in an orderly way")
    print("last word", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
print(os.getpid(), flush=True)
time.sleep(100)
"""


@contextlib.contextmanager
def tethered(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    pipe = subprocess.PIPE
    words = [sys.executable, "-m", "gcc_search.search.tether", str(folder), sys.executable, *command]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe) as process:
        yield process


@contextlib.contextmanager
def waiting(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A tether, and what it holds; it writes to `ended` in `tmp_path` when it is asked to end."""
    with tethered(tmp_path / "there", "-c", WAITING, str(tmp_path / "ended")) as process:
        name, pid = json.loads(process.stdout.readline())
        assert name == "out"
        held = psutil.Process(int(pid))
        yield process, held
        held.wait(timeout=20)
    assert (tmp_path / "ended").read_text() == "ended in an orderly way"


@contextlib.contextmanager
def impatient(tmp_path: Path, change: str, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A tether with one of its times changed, on Python that has printed a line."""
    (tmp_path / "there").mkdir()
    hold = f"import sys; from gcc_search.search import tether; tether.{change}; tether.hold(sys.argv[2:], sys.argv[1])"
    words = [sys.executable, "-c", hold, str(tmp_path / "there"), sys.executable, "-c", code, str(tmp_path / "ended")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process


def test_lines_and_exit_code_come_back_and_the_folder_goes(tmp_path):
    code = "import sys, os; print(os.getcwd()); print('é', file=sys.stderr); sys.exit(7)"
    with tethered(tmp_path / "there", "-c", code) as process:
        said = [json.loads(line) for line in process.stdout]
    assert sorted(said[:-1]) == [["err", "é"], ["out", str(tmp_path / "there")]]
    assert said[-1] == ["exit", 7]
    assert not (tmp_path / "there").exists()


def test_it_is_neither_a_child_of_who_starts_it_nor_of_its_group(tmp_path):
    with waiting(tmp_path) as (process, held):
        assert process.wait(timeout=10) == 0
        assert process.pid not in [parent.pid for parent in held.parents()]
        process.stdin.close()


def test_who_asks_for_the_end_hears_of_it(tmp_path):
    with waiting(tmp_path) as (process, _):
        process.stdin.write(tether.BEAT + tether.STOP)
        process.stdin.flush()
        assert [json.loads(line) for line in process.stdout] == [["out", "last word"], ["exit", 130]]


def test_when_who_wanted_it_is_gone_it_ends_in_an_orderly_way(tmp_path):
    with waiting(tmp_path) as (process, _):
        process.stdout.close()
        process.stdin.close()


@pytest.mark.parametrize("beats", [0, 4])
def test_silence_ends_it_and_beats_do_not(tmp_path, beats):
    with impatient(tmp_path, "SILENT_SECONDS = 1.0", WAITING) as process:
        began = time.monotonic()
        for _ in range(beats):
            process.stdin.write(tether.BEAT)
            process.stdin.flush()
            time.sleep(0.5)
        assert json.loads(process.stdout.readlines()[-1]) == ["exit", 130]
        lived = time.monotonic() - began
    assert 0.5 * beats < lived < 0.5 * beats + 10


def test_what_does_not_end_is_ended(tmp_path):
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(100)"
    with impatient(tmp_path, "END_SECONDS = 0.5", deaf) as process:
        process.stdin.close()
        assert json.loads(process.stdout.readline()) == ["exit", -9]
