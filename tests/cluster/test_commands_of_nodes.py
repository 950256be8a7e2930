"""What the files have machines do, done here: real bash, with this Python in the place of a node's."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.cluster.validators import read

RAY_UP = ["local.yaml", "aws.yaml", "gcp.yaml", "azure.yaml"]


def run(script: str, home: Path, path: str = "/usr/bin:/bin") -> int:
    done = subprocess.run(["bash", "-c", script], env={"HOME": str(home), "PATH": path}, check=False)
    return done.returncode


def command_with(name: str, word: str) -> str:
    (command,) = [command for command in yaml.safe_load(read(name))["setup_commands"] if word in command]
    return command.replace("~/gcc-search-env/bin/python", sys.executable)


@pytest.fixture
def bucket(tmp_path) -> Path:
    image = tmp_path / "bucket/caltech101/101_ObjectCategories/accordion/image_0001.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"an image")
    return tmp_path / "bucket"


@pytest.mark.parametrize(("name", "address"), [("aws.yaml", "s3://BUCKET/data"), ("gcp.yaml", "gs://BUCKET/data")])
def test_a_bucket_s_data_is_copied_whole_and_once(name, address, bucket, tmp_path):
    command = command_with(name, "copy_files").replace(address, str(bucket))
    copy = tmp_path / "data/caltech101/101_ObjectCategories/accordion/image_0001.jpg"
    assert run(command, tmp_path) == 0
    assert copy.read_bytes() == b"an image"
    copy.write_bytes(b"not copied again")
    assert run(command, tmp_path) == 0
    assert copy.read_bytes() == b"not copied again"


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_a_bucket_that_cannot_be_read_leaves_no_data_and_fails(name, tmp_path):
    command = (
        command_with(name, "copy_files").replace("s3://BUCKET/data", "/nowhere").replace("gs://BUCKET/data", "/nowhere")
    )
    assert run(f"({command}) 2> /dev/null", tmp_path) != 0
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", RAY_UP)
def test_the_environment_is_set_once_however_often_a_machine_is_set_up(name, tmp_path):
    (tmp_path / ".bashrc").write_text("# what was there\n")
    for _ in range(2):
        assert run(command_with(name, ".bashrc"), tmp_path) == 0
    first, second = (tmp_path / ".bashrc").read_text().splitlines()
    assert second == "# what was there"
    script = (
        f'{first}; [ "$RAY_AUTH_MODE-$RAY_USAGE_STATS_ENABLED-${{PATH%%:*}}" = "token-0-$HOME/gcc-search-env/bin" ]'
    )
    assert run(script, tmp_path) == 0


@pytest.mark.parametrize(
    ("resume_ends_with", "search_ends_with", "called", "code"),
    [
        (0, 7, ["resume"], 0),
        # Some trials failed: no other cluster is to find the same again.
        (2, 7, ["resume"], 0),
        (130, 7, ["resume"], 130),
        (1, 7, ["resume", "--space"], 7),
        (1, 2, ["resume", "--space"], 0),
        (1, 0, ["resume", "--space"], 0),
    ],
)
def test_a_kubernetes_job_resumes_the_run_that_is_there_and_begins_it_where_there_is_none(
    resume_ends_with, search_ends_with, called, code, tmp_path
):
    script, _ = yaml.safe_load_all(read("kuberay-rayjob.yaml"))
    program = tmp_path / "gcc-search"
    ends = f'[ "$1" = resume ] && exit {resume_ends_with}\nexit {search_ends_with}'
    program.write_text(f'#!/bin/bash\necho "$1" >> {tmp_path}/calls\n{ends}\n')
    program.chmod(0o755)
    assert run(script["data"]["run.sh"], tmp_path, path=f"{tmp_path}:/usr/bin:/bin") == code
    assert (tmp_path / "calls").read_text().split() == called


@pytest.fixture
def machine(tmp_path) -> Path:
    """A home with an environment for our wheels, as of a machine that was set up before."""
    environment = tmp_path / "gcc-search-env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    (tmp_path / "gcc-search/dist").mkdir(parents=True)
    (tmp_path / "gcc-search/constraints.txt").touch()
    return tmp_path


def put_wheel(home: Path, version: str, content: str) -> None:
    """The smallest wheel that pip takes for gcc_search."""
    info = f"gcc_search_stub-{version}.dist-info"
    with zipfile.ZipFile(home / f"gcc-search/dist/gcc_search_stub-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("gcc_search_stub.py", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: gcc-search-stub\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize("name", ["local.yaml"])
def test_a_machine_that_was_set_up_before_gets_the_newest_code_whether_its_version_is_another_or_not(name, machine):
    commands = [command for command in yaml.safe_load(read(name))["setup_commands"] if "dist/" in command]
    for age, (version, content) in enumerate([("1.0", "a = 1"), ("1.0", "a = 2"), ("0.9", "a = 3")]):
        put_wheel(machine, version, content)
        (path,) = machine.glob(f"gcc-search/dist/*-{version}-*.whl")
        os.utime(path, (1_000 + age, 1_000 + age))
        assert run(f"export PIP_NO_INDEX=1; {' && '.join(commands)}", machine) == 0
        (found,) = machine.glob("gcc-search-env/lib/*/site-packages/gcc_search_stub.py")
        assert found.read_text() == content
