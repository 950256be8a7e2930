"""What of the test of several hosts can be tried without any; the test itself is `make cluster-test`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from dataclasses import replace

import pytest
import yaml

from gcc_search.results.reader import read_trial
from gcc_search.results.writer import write_trial
from tests.faults.census import finished_files
from tests.hosts import site
from tests.hosts.census import take_census
from tests.hosts.launch import exported, write_cluster_file
from tests.hosts.machines import ADDRESSES, ROOT, furnish
from tests.hosts.site import FOLDER, remove_stale, why_not


def test_what_is_launched_is_the_shipped_file_with_our_addresses_and_without_an_installation(tmp_path):
    (tmp_path / "shared").mkdir()
    shipped = yaml.safe_load((ROOT / "cluster/local.yaml").read_text())
    ours = yaml.safe_load(write_cluster_file(tmp_path).read_text())
    same = ("head_start_ray_commands", "worker_start_ray_commands", "min_workers", "max_workers", "cluster_name")
    assert {name: ours[name] for name in same} == {name: shipped[name] for name in same}
    hosts = {ours["provider"]["head_ip"], *ours["provider"]["worker_ips"]}
    assert hosts == {ADDRESSES["head"], ADDRESSES["worker-1"], ADDRESSES["worker-2"]}
    kept = [command for command in shipped["setup_commands"] if "pip install" not in command]
    assert len(ours["setup_commands"]) == len(kept) < len(shipped["setup_commands"])
    assert f"test -d {tmp_path}/shared/data" in ours["setup_commands"]


def test_what_its_header_exports_is_exported():
    assert {"RAY_AUTH_MODE=token", "RAY_UP_enable_autoscaler_v2=0"} <= set(exported())


def test_hosts_find_names_and_keys_below_the_folder_of_the_test(tmp_path):
    furnish(tmp_path)
    assert "10.77.0.11 head\n" in (tmp_path / "hosts").read_text()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert f"HostKey {tmp_path}/host_key\n" in (tmp_path / "sshd_config").read_text()


def test_folders_of_tests_that_were_killed_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f"{FOLDER}{dead.pid}-a", f"{FOLDER}{os.getpid()}-b", f"{FOLDER}mine-c", "others"):
        (tmp_path / name).mkdir()
    remove_stale()
    assert {path.name for path in tmp_path.iterdir()} == {f"{FOLDER}{os.getpid()}-b", f"{FOLDER}mine-c", "others"}


def test_the_census_notices_what_it_is_there_to_notice(tiny_search, tmp_path):
    result, printed = tiny_search
    run = shutil.copytree(result.run, tmp_path / "tiny")
    before = finished_files(run)
    assert take_census(run, printed, asked=3, before=before) == []
    folder, lost = (run / f"trials/convnet_small-000{number}" for number in (0, 2))
    write_trial(folder, replace(read_trial(folder).record, status="running", failures=["crash"]))
    shutil.rmtree(lost)
    with sqlite3.connect(run / "study.db") as database:
        database.execute("UPDATE trials SET state = 'RUNNING' WHERE number = 1")
    problems = take_census(run, printed + printed, asked=3, before=before)
    assert {
        "3 trials asked for, 2 there",
        "convnet_small-0000: running: None",
        "0 failures expected, records say 1",
        "convnet_small-0001: its end was told 2 times",
        "study.db: 3 trials asked for, ['COMPLETE', 'RUNNING', 'COMPLETE'] there",
    } <= set(problems)
    assert sum("changed after it was finished" in line for line in problems) >= 1


def test_what_the_machine_lacks_for_the_test_is_told(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert why_not() == "not root"


@pytest.mark.skipif(os.geteuid() != 0 or why_not() is not None, reason="no root with iproute2, openssh-server, rsync")
def test_a_machine_that_may_not_make_networks_says_why(monkeypatch):
    monkeypatch.setattr(site, "_TRIED", "ip link add lan type nonsense")
    assert why_not() == "no right to make hosts and networks of namespaces (Error: Unknown device type.)"
