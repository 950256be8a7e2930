"""What holds for all cluster files: a validator each, a header to follow, commands that exist, nothing to download."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.cluster.commands import (
    ROOT,
    bash_complaints,
    calls,
    gcc_search_complaints,
    header_commands,
    ray_complaints,
)
from tests.cluster.validators import FOLDER, VALIDATORS, read
from tests.cluster.versions import ray_version

CLUSTERS = [name for name in VALIDATORS if name != "Dockerfile"]

# What takes a reader from nothing to a frontier, and back to nothing, in this order.
RAY_UP_WAY = [
    "pip install -c constraints.txt",
    "rm -rf dist && pip wheel --no-deps --wheel-dir dist .",
    "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0",
    "ray get-auth-token --generate",
    "ray up -y cluster/{name}",
    "ray dashboard cluster/{name}",
    ". .venv/bin/activate && export RAY_AUTH_MODE=token",
    "gcc-search submit --address http://127.0.0.1:8265 --space",
    "gcc-search logs JOB --follow",
    "gcc-search analyze",
    "ray down -y cluster/{name}",
    "gcc-search resume",
]
KUBERNETES_WAY = [
    "pip install -c constraints.txt",
    "rm -rf dist && pip wheel --no-deps --wheel-dir dist .",
    "docker build -f cluster/Dockerfile -t REGISTRY/gcc-search:1 .",
    "ray get-auth-token --generate",
    "kubectl create secret generic gcc-search-token",
    "kubectl apply -f cluster/{name}",
]
WAYS = {
    **dict.fromkeys(["local.yaml", "aws.yaml", "gcp.yaml", "azure.yaml"], RAY_UP_WAY),
    "kuberay-cluster.yaml": [
        *KUBERNETES_WAY,
        "kubectl port-forward service/gcc-search-head-svc 8265:8265",
        ". .venv/bin/activate",
        "gcc-search submit --address http://127.0.0.1:8265 --space",
        "gcc-search logs JOB --follow",
        "gcc-search analyze",
        "kubectl delete -f cluster/{name}",
        "gcc-search resume",
    ],
    "kuberay-rayjob.yaml": [
        *KUBERNETES_WAY,
        "kubectl logs --follow job/gcc-search",
        "gcc-search analyze",
        "kubectl delete -f cluster/{name}",
    ],
    "slurm.sbatch": [
        "pip install -c constraints.txt",
        "ray get-auth-token --generate",
        "sbatch --test-only cluster/{name} search_spaces/",
        "sbatch cluster/{name} search_spaces/",
        "gcc-search analyze $SHARED/runs/caltech",
        "scancel JOB",
        "rsync -a LOGIN:/shared/USER/runs/caltech/analysis .",
    ],
}


def test_every_file_has_one_validator():
    assert {path.name for path in FOLDER.iterdir()} == set(VALIDATORS)


@pytest.mark.parametrize("name", VALIDATORS)
def test_every_file_is_well(name):
    assert VALIDATORS[name](read(name)) == []


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_header_names_machines_cost_and_the_way_to_a_frontier_and_back(name):
    header = "\n".join(line for line in read(name).splitlines() if line.startswith("# "))
    assert "# Machines:  " in header
    assert "# Cost:      " in header
    commands = "\n".join(header_commands(read(name)))
    place = 0
    for step in (step.format(name=name) for step in WAYS[name]):
        found = commands.find(step, place)
        assert found >= 0, f"{step} is missing, or stands too early"
        place = found


@pytest.mark.parametrize("name", VALIDATORS)
def test_a_header_s_commands_are_bash(name):
    assert header_commands(read(name)) != []
    assert [line for command in header_commands(read(name)) for line in bash_complaints(command)] == []


@pytest.mark.parametrize("name", VALIDATORS)
def test_the_programs_take_the_commands_of_a_header(name):
    commands = "\n".join(header_commands(read(name)))
    assert gcc_search_complaints(commands) + ray_complaints(commands) == []


@pytest.mark.parametrize("name", ["kuberay-rayjob.yaml", "slurm.sbatch"])
def test_gcc_search_takes_the_command_lines_of_a_script(name):
    script = body(name)
    assert [arguments[0] for arguments in calls(script, "gcc-search")] == ["resume", "--space"]
    assert gcc_search_complaints(script) == []


def body(name: str) -> str:
    """The shell script in the file, comments included."""
    if name == "slurm.sbatch":
        return "\n".join(line for line in read(name).splitlines() if not line.startswith("#"))
    first, _ = yaml.safe_load_all(read(name))
    return first["data"]["run.sh"]


@pytest.mark.parametrize(
    "line",
    [
        "gcc-search serch --space x.yaml",
        "gcc-search --spase x.yaml",
        "gcc-search resume s3://BUCKET/runs/x --gpu 4",
        "ray exec cluster/aws.yaml 'gcc-search resume --gpus 4'",
        "kubectl exec pod -c ray-head -- gcc-search resume place --gpus many",
    ],
)
def test_a_wrong_command_line_of_gcc_search_is_noticed(line):
    assert len(gcc_search_complaints(line)) == 1


@pytest.mark.parametrize("line", ["ray upp -y x.yaml", "ray up --yess x.yaml", "ray start --haed", "ray dashboard"])
def test_a_wrong_command_line_of_ray_is_noticed(line):
    assert len(ray_complaints(line)) == 1


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_space_and_the_run_that_are_named_exist_and_belong_together(name):
    (space,) = set(re.findall(r"search_spaces/(\w+)\.yaml", read(name)))
    assert yaml.safe_load((ROOT / f"search_spaces/{space}.yaml").read_text())["name"] == space
    assert set(re.findall(r"runs/(\w+)", read(name))) == {space}


@pytest.mark.parametrize("name", VALIDATORS)
def test_nothing_is_downloaded_from_an_address(name):
    # The dashboard on this machine, and the name that Google gives to a right, which is no address.
    known = {"http://127.0.0.1:8265", "https://www.googleapis.com/auth/cloud-platform"}
    assert set(re.findall(r"\b(?:https?|ftp|git)(?:\+\w+)?://[^\s'\"\]}]+", read(name))) <= known


@pytest.mark.parametrize("name", VALIDATORS)
def test_no_price_is_named_that_ages(name):
    comments = "\n".join(line for line in read(name).splitlines() if line.lstrip().startswith("#"))
    assert re.findall(r"[$€]\s?\d|\bUSD\b|\bEUR\b|cents?\b", comments) == []


@pytest.mark.parametrize("name", VALIDATORS)
def test_a_version_of_ray_that_is_named_is_that_of_the_constraints(name):
    minor = ray_version().rsplit(".", 1)[0]
    assert set(re.findall(r"\b[Rr]ay (\d+\.\d+)", read(name))) <= {minor}


def test_the_readme_names_every_file():
    section = (ROOT / "README.md").read_text().split("\n## Clusters\n")[1].split("\n## ")[0]
    assert all(f"cluster/{name}" in section for name in CLUSTERS)
