"""A container or a batch job seldom has all cores of its machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gcc_search.cores import usable_cores
from gcc_search.search.machines import this_machine

ALL = len(os.sched_getaffinity(0))
ONE = "100000 100000\n"


@pytest.fixture
def machine(tmp_path):
    """Writes the groups of a process and their files, and says how many cores that leaves it."""

    def cores(membership: str, files: dict[str, str]) -> int:
        (tmp_path / "membership").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return usable_cores(tmp_path / "membership", tmp_path / "groups")

    return cores


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        # A container's own group, alone to be seen in it.
        ("0::/\n", {"cpu.max": ONE}),
        # A job's step, limited by a group around it.
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000\n", "job/cpu.max": ONE}),
        # Half a core is one process all the same.
        ("0::/\n", {"cpu.max": "50000 100000\n"}),
        # Version 1, as on the host, and in a container, where the host's name for the group leads nowhere.
        ("4:cpu,acct:/a\n", {"cpu,acct/a/cpu.cfs_quota_us": "100000\n", "cpu,acct/a/cpu.cfs_period_us": "100000\n"}),
        ("4:cpu:/docker/0a\n", {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}),
    ],
)
def test_a_quota_is_kept_to(machine, membership, files):
    assert machine(membership, files) == 1


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("", {}),
        ("0::/\n", {"cpu.max": "max 100000\n"}),
        ("0::/\n", {"cpu.max": "torn"}),
        ("0::/\n", {"cpu.max": "99900000 100000\n"}),
        ("0::/other\n", {"another/cpu.max": ONE}),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
        ("5:memory:/\n", {"memory/cpu.max": ONE}),
    ],
)
def test_without_a_quota_all_cores_of_the_affinity_count(machine, membership, files):
    assert machine(membership, files) == ALL


def test_a_process_that_is_bound_to_one_core_has_one():
    code = f"""
import os
os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})
from gcc_search.cores import usable_cores
print(usable_cores())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_search_on_this_machine_has_what_its_process_has():
    assert this_machine().num_cpus == usable_cores() <= ALL
