"""The validator of batch scripts notices mistakes; the script is run, with stand-ins for Slurm's programs and Ray's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.commands import shellcheck
from tests.cluster.slurm import check, option_complaints
from tests.cluster.validators import FOLDER, read

SCRIPT = FOLDER / "slurm.sbatch"

# What stands in for each program: all write down how they were called, those below do more.
STUBS = {
    "scontrol": "",
    "hostname": "echo 10.0.0.7 192.168.0.7",
    # As one task: what comes after the options of srun.
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    # `ray symmetric-run ... -- COMMAND` runs the command on the first node and ends with its exit code, or with 0 where
    # Ray does not start.
    "ray": '[ -z "${RAY_FAILS:-}" ] || exit 0; while [ "$1" != -- ]; do shift; done; shift; "$@"',
    # A search of some tenths of a second, which stops in order when asked to.
    "gcc-search": """trap 'echo stopped >> "$CALLS"; exit 130' TERM
for _ in $(seq "${TENTHS:-2}"); do sleep 0.1; done
exit "${ENDS_WITH:-0}\"""",
}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("#!/bin/bash", "#!/bin/sh"),
        ("#SBATCH --nodes=2", "#SBATCH --node=2"),
        ("#SBATCH --nodes=2", "#SBATCH --nodes=two"),
        ("#SBATCH --nodes=2", "#SBATCH --nodes 2"),
        ("#SBATCH --nodes=2", "#SBATCH --nodes=0"),
        ("#SBATCH --nodes=2", "# SBATCH --nodes=2"),
        ("#SBATCH --nodes=2", "#SBATCH --nodes=2\n#SBATCH --nodes=3"),
        ("#SBATCH --time=24:00:00", "#SBATCH --time=24h"),
        ("#SBATCH --time=24:00:00\n", ""),
        ("#SBATCH --mem=0", "#SBATCH --mem=64GiB"),
        ("#SBATCH --signal=B:USR1@300", "#SBATCH --signal=USR1@300"),
        ("#SBATCH --signal=B:USR1@300", "#SBATCH --signal=B:TERM@300"),
        ("#SBATCH --signal=B:USR1@300", "#SBATCH --signal=B:USR1@5"),
        ("#SBATCH --requeue\n", ""),
        ("#SBATCH --requeue", "#SBATCH --requeue=yes"),
        ("#SBATCH --exclusive\n", ""),
        ("#SBATCH --open-mode=append", "#SBATCH --open-mode=truncate"),
        ("#SBATCH --ntasks-per-node=1", "#SBATCH --ntasks-per-node=4"),
        ("set -euo pipefail\n", "set -euo pipefail\n#SBATCH --partition=gpu\n"),
        ("RAY_AUTH_MODE=token RAY_USAGE", "RAY_USAGE"),
        ("then\n", "\n"),
        ("ray symmetric-run --address", "ray symmetric-run --adress"),
        ("--num-cpus=", "--num-cpu="),
        ("--num-cpus=", "--include-dashboard=false --num-cpus="),
    ],
)
def test_a_mistake_is_noticed(right, wrong):
    assert check(read("slurm.sbatch")) == []
    assert right in read("slurm.sbatch")
    assert check(read("slurm.sbatch").replace(right, wrong)) != []


@pytest.mark.parametrize("time_limit", ["90", "90:00", "24:00:00", "2-12", "2-12:30", "2-12:30:00"])
def test_every_form_of_a_time_limit_is_known(time_limit):
    assert option_complaints("time", time_limit) == []


def test_shellcheck_has_nothing_to_say():
    assert shellcheck(SCRIPT.read_text()) == ""


@pytest.fixture
def job(tmp_path):
    """Starts the script as Slurm would on the first of two nodes with four GPUs each."""
    bin_folder = tmp_path / "shared/gcc-search-env/bin"
    bin_folder.mkdir(parents=True)
    for name, body in STUBS.items():
        stub = bin_folder / name
        stub.write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\n{body}\n')
        stub.chmod(0o755)
    # The number names the folder of the node's scratch, below /tmp.
    number = str(40_000_000 + os.getpid())
    environment = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "CALLS": str(tmp_path / "calls"),
        "SHARED": str(tmp_path / "shared"),
        "SLURM_JOB_ID": number,
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "32",
    }

    def start(**more: str) -> subprocess.Popen[str]:
        command = ["bash", str(SCRIPT), "search_spaces/caltech.yaml", "caltech"]
        return subprocess.Popen(command, env=environment | more, stderr=subprocess.PIPE, text=True)

    yield start
    shutil.rmtree(f"/tmp/gcc-{number}", ignore_errors=True)


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().replace(str(folder), "").splitlines() if path.exists() else []


def wait_for(folder: Path, beginning: str) -> None:
    for _ in range(300):
        if any(call.startswith(beginning) for call in calls(folder)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{beginning} was never called")


def test_a_first_job_begins_the_search_on_all_gpus(job, tmp_path):
    process = job()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    (search,) = [call for call in calls(tmp_path) if call.startswith("gcc-search")]
    assert search == (
        "gcc-search --space search_spaces/caltech.yaml --name caltech --address auto --gpus 8"
        " --out /shared/runs --data-root /shared/data"
    )
    (ray,) = [call for call in calls(tmp_path) if call.startswith("ray")]
    assert re.match(
        r"ray symmetric-run --address 10\.0\.0\.7:[23]\d{4} --min-nodes 2 --num-cpus=32 --num-gpus=4 -- bash -c ", ray
    )
    assert [call for call in calls(tmp_path) if call.startswith("scontrol")] == []


def test_a_later_job_resumes_the_run_that_is_there(job, tmp_path):
    (tmp_path / "shared/runs/caltech").mkdir(parents=True)
    (tmp_path / "shared/runs/caltech/run.json").write_text("{}")
    process = job()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "gcc-search resume /shared/runs/caltech --address auto --gpus 8" in calls(tmp_path)


def test_before_the_time_limit_the_search_stops_in_order_and_the_job_queues_itself_again(job, tmp_path):
    process = job(TENTHS="300")
    wait_for(tmp_path, "gcc-search")
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    said = calls(tmp_path)
    assert "stopped" in said
    assert said[-1].startswith("scontrol requeue 4")


def test_a_search_that_fails_is_not_queued_again(job, tmp_path):
    process = job(ENDS_WITH="1")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    assert not any(call.startswith("scontrol") for call in calls(tmp_path))


def test_a_job_without_its_shared_folder_says_so(job, tmp_path):
    process = job(SHARED="")
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "SHARED: must be a folder that all nodes see, export it before sbatch" in err
    assert calls(tmp_path) == []


def test_a_job_whose_ray_does_not_start_has_failed(job, tmp_path):
    process = job(RAY_FAILS="yes")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "gcc-search: Ray must start on the first node" in err
    assert not any(call.startswith(("gcc-search", "scontrol")) for call in calls(tmp_path))


def test_a_step_has_the_cores_of_its_task():
    assert "\nexport SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK\n" in read("slurm.sbatch")
