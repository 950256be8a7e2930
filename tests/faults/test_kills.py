"""The short form of the fault suite; the long one is `make faults`."""

import os
import random
import signal

import psutil
import pytest

from gcc_search.errors import ResultsError
from gcc_search.occupancy import only_writer
from gcc_search.results.reader import read_run
from tests.faults.census import take_census
from tests.faults.lives import run_lives
from tests.faults.processes import Place
from tests.faults.timeline import BEGUN, Event, deal_out, draw_moments

KILLS = 10
LIFE = [
    BEGUN,
    Event(name="run.json", phase="Ray's start-up", seconds=4.0),
    Event(name="baselines/a begun", phase="start network", seconds=8.0),
    Event(name="baselines/a ended", phase="between jobs", seconds=10.0),
    Event(name="trials/0 begun", phase="trial", seconds=11.0),
    Event(name="closed", phase="closed", seconds=20.0),
]


@pytest.mark.timeout(900)
def test_ten_kills_lose_nothing_and_change_nothing(undisturbed, tmp_path):
    lives = list(run_lives(undisturbed, tmp_path, kills=KILLS, per_life=KILLS, seed=0))
    assert [line for life in lives for line in life.faults.lines()] == []
    kills = [kill for life in lives for kill in life.kills]
    assert len(kills) == KILLS
    assert {kill.victim for kill in kills} == {"driver", "worker"}


def test_moments_lie_in_every_part_of_a_life_and_are_drawn_by_seed():
    drawn = [draw_moments(LIFE, count=20, victims=("driver",), rng=random.Random(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {moment.phase for moment in drawn[0]} == {event.phase for event in LIFE[:-1]}


def test_moments_are_dealt_out_in_the_order_of_the_life():
    rng = random.Random(0)
    moments = draw_moments(LIFE, count=12, victims=("driver", "worker"), rng=rng)
    lives = deal_out(moments, LIFE, per_life=5, rng=rng)
    assert sorted(str(moment) for life in lives for moment in life) == sorted(map(str, moments))
    order = [event.name for event in LIFE]
    for life in lives:
        places = [order.index(moment.event) for moment in life if moment.event]
        assert places == sorted(places)


def test_the_census_would_notice(undisturbed, tmp_path):
    """A loss, a second training, a zombie, a change and a leftover, planted: each is counted."""
    import shutil
    import sqlite3
    from dataclasses import replace

    from gcc_search.results.writer import write_trial
    from tests.faults.census import finished_files

    run = shutil.copytree(undisturbed.run, tmp_path / "tiny")
    seen = finished_files(run)
    assert take_census(undisturbed.run, run, seen=seen, processes=[]).lines() == []
    gone, twice, running, changed = [t.record for t in read_run(run).trials if t.record.status == "finished"][:4]
    shutil.rmtree(run / "trials" / gone.id)
    for record, changes in (
        (twice, {"attempts": 2}),
        (running, {"status": "running"}),
        (changed, {"sampled": {"alpha": 9.0}}),
    ):
        write_trial(run / "trials" / record.id, replace(record, **changes))
    (run / "trials" / changed.id / ".trial.json.0.tmp").touch()
    with sqlite3.connect(run / "study.db") as database:
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE number = 5")
    faults = take_census(undisturbed.run, run, seen=seen, processes=["process 1"])
    assert faults.lost == (f"trials/{gone.id}", f"trials/{running.id}")
    assert faults.twice == (f"trials/{twice.id}", f"trials/{changed.id}")
    assert faults.zombies == (f"{running.id} is running", "the study's trial 5 is RUNNING", "process 1")
    assert f"trials/{changed.id}: sampled" in faults.changed
    assert faults.left == (f"trials/{changed.id}/.trial.json.0.tmp",)


def test_a_search_that_was_killed_before_its_first_word_starts_again_under_its_name(undisturbed, tmp_path):
    """Nothing would be lost by it, so the name is not taken."""
    import io

    from rich.console import Console

    from gcc_search.search.readiness import SearchOptions, prepare_search
    from tests.search.conftest import make_space

    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/driver.lock").touch()
    (tmp_path / "tiny/.run.json.0.tmp").touch()
    options = SearchOptions(out=tmp_path, gpus=0)
    assert prepare_search(make_space(), options, Console(file=io.StringIO())).run == tmp_path / "tiny"
    (tmp_path / "tiny/notes.txt").touch()
    with pytest.raises(ResultsError, match="must be a new name, got a folder that exists"):
        prepare_search(make_space(), options, Console(file=io.StringIO()))


def test_a_search_resumes_from_within_its_own_folder(undisturbed, monkeypatch):
    import io
    from pathlib import Path

    from rich.console import Console

    from gcc_search.search.readiness import SearchOptions, reopen_search

    monkeypatch.chdir(undisturbed.run)
    options = SearchOptions(out=undisturbed.run.parent, gpus=0)
    assert reopen_search(read_run(Path()), options, Console(file=io.StringIO())).run == undisturbed.run


def test_a_folder_has_one_writer_and_a_dead_one_lets_go(tmp_path, monkeypatch):
    monkeypatch.setattr("gcc_search.occupancy.PATIENCE_SECONDS", 0.2)
    child = os.fork()
    if child == 0:
        with only_writer(tmp_path / "trial"):
            (tmp_path / "held").touch()
            signal.pause()
    while not (tmp_path / "held").exists():
        pass
    with pytest.raises(ResultsError, match="must have one writer at a time"), only_writer(tmp_path / "trial"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with only_writer(tmp_path / "trial"):
        assert list((tmp_path / "trial").iterdir()) == []


def test_processes_are_found_by_the_mark_they_inherit(tmp_path):
    import subprocess
    import sys

    from tests.faults.processes import MARK

    place = Place(folder=tmp_path)
    sleeper = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    process = subprocess.Popen([sys.executable, "-c", sleeper], env=os.environ | {MARK: place.mark})
    while len(place.processes()) < 2:
        assert process.poll() is None
    found = place.processes()
    for child in found:
        child.kill()
    psutil.wait_procs(found)
    process.wait()
    assert place.wait_for_silence(10) == []
