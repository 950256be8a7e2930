"""A machine that is lost in the middle of a trial: real raylets of one cluster, one of them killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import psutil

from gcc_search.results.reader import read_run
from tests.search.conftest import make_space
from tests.search.test_retries import ONE_TRIAL, record_of, search, wait_until, workers


def holder_of(folder: Path) -> psutil.Process:
    """The worker that records there; another may train the baseline."""
    (found,) = (worker for worker in workers() if str(folder.resolve()) in open_by(worker))
    return found


def open_by(process: psutil.Process) -> set[str]:
    found = set()
    for handle in Path(f"/proc/{process.pid}/fd").iterdir():
        # It may be closed by now.
        with contextlib.suppress(OSError):
            found.add(str(handle.readlink()))
    return found


def test_a_trial_whose_machine_is_lost_goes_on_at_another_from_its_checkpoint(cluster, tmp_path):
    lost = []

    def lose_the_machine(run) -> None:
        wait_until(lambda: record_of(run).get("epochs_done") == 1)
        worker = holder_of(run / "trials" / "convnet_small-0000")
        # It ends with its machine, and not by itself before that.
        os.kill(worker.pid, signal.SIGSTOP)
        (node,) = (n for n in cluster.worker_nodes if n.all_processes["raylet"][0].process.pid == worker.ppid())
        cluster.remove_node(node, allow_graceful=False)
        os.kill(worker.pid, signal.SIGKILL)
        lost.append(node)

    result, printed = search(make_space(**ONE_TRIAL), tmp_path, meanwhile=lose_the_machine)
    record = read_run(result.run).trials[0].record
    assert lost
    # How one trial of so few epochs ends, finished or collapsed, is its network's matter.
    assert record.status in ("finished", "collapsed")
    assert (record.attempts, record.failures) == (2, ["crash"])
    assert [row["epoch"] for row in read_run(result.run).trials[0].epochs().to_pylist()] == [1, 2, 3]
    assert re.search("machine .* was lost; tried again, failure 1 of at most 3", printed)
    assert result.exit_code == 0
