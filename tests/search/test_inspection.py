"""Launch checks, on several raylets of one machine: what differs by process there differs by machine elsewhere."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from gcc_search.errors import ClusterError
from gcc_search.search.inspection import Look, Wanted, _compare, inspect_cluster
from gcc_search.settings import DataSettings
from gcc_search.trial import open_dataset

NOWHERE = Console(file=io.StringIO())
LOOK = Look(
    versions={"gcc-search": "1.0", "python": "3.11"},
    weights={"/w.pth": "digest"},
    sees_probe=True,
    not_written=None,
    clock=0.0,
)


@pytest.fixture
def wanted(shapes_settings, tmp_path) -> Wanted:
    images = open_dataset(shapes_settings, 32)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    return Wanted(
        networks=("convnet_small",),
        data=shapes_settings,
        fingerprints={32: images.fingerprint},
        weights=(weights,),
        published={},
        place=str(tmp_path / "a/runs"),
    )


def test_machines_that_agree_are_fit_and_nothing_is_left_behind(cluster, wanted, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    inspect_cluster(wanted, NOWHERE)
    assert sorted(tmp_path.rglob("*")) == before


def test_everything_that_is_wrong_is_told_at_once_a_line_for_each_machine(cluster, wanted, tmp_path, monkeypatch):
    # What these names mean is different for each process; Ray's workers stay where this one was when it joined.
    monkeypatch.chdir(tmp_path)
    mine = replace(wanted, place="/proc/self/cwd", weights=(Path("/proc/self/stat"),))
    with pytest.raises(ClusterError) as error:
        inspect_cluster(mine, NOWHERE)
    lines = str(error.value).splitlines()
    assert len(lines) == 6
    assert sum("/proc/self/stat: weights must be as on" in line and "got other bytes" in line for line in lines) == 3
    assert sum("/proc/self/cwd: must be the same folder on every machine" in line for line in lines) == 3


def test_other_images_are_told(cluster, wanted):
    with pytest.raises(ClusterError) as error:
        inspect_cluster(replace(wanted, fingerprints={32: "others"}), NOWHERE)
    assert str(error.value).count("images of shapes must be those of") == 3
    missing = DataSettings(name="caltech101", root=Path("/nowhere"))
    with pytest.raises(ClusterError, match="/nowhere"):
        inspect_cluster(replace(wanted, data=missing), NOWHERE)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"versions": {"gcc-search": "0.9", "python": "3.11"}}, ["gcc-search must be 1.0, as on"]),
        ({"versions": {"gcc-search": "1.0"}}, ["python must be 3.11, as on"]),
        ({"weights": {"/w.pth": None}}, ["/w.pth: weights must be as on"]),
        ({"sees_probe": False}, ["/runs: must be the same folder on every machine"]),
        ({"not_written": "/runs/x: must be writable, got: Permission denied"}, ["/runs/x: must be writable"]),
        ({"clock": -100.0}, ["clock must be within 60 s"]),
        ({"clock": 100.0}, ["clock must be within 60 s"]),
        ({"sees_probe": False, "weights": {"/w.pth": "other"}}, ["/w.pth", "/runs"]),
    ],
)
def test_each_difference_is_a_line(wanted, changes, told):
    now = time.time()
    theirs = replace(LOOK, **changes)
    found = list(_compare(replace(theirs, clock=now + theirs.clock), LOOK, replace(wanted, place="/runs"), now))
    assert len(found) == len(told)
    for line, expected in zip(found, told, strict=True):
        assert line.startswith(expected)


def test_weights_that_have_a_name_are_asked_for_on_every_machine(cluster, wanted):
    with pytest.raises(ClusterError) as error:
        inspect_cluster(replace(wanted, published={"convnet_small": "IMAGENET1K_V1"}), NOWHERE)
    assert str(error.value).count("weights: IMAGENET1K_V1: convnet_small has no published weights") == 3
