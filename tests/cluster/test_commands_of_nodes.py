"""What the files have machines do, done here: real bash, with this Python in the place of a node's."""

from __future__ import annotations

import subprocess
import sys
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
    ("resume_ends_with", "called", "code"),
    [(0, ["resume"], 0), (2, ["resume"], 2), (130, ["resume"], 130), (1, ["resume", "--space"], 7)],
)
def test_a_kubernetes_job_resumes_the_run_that_is_there_and_begins_it_where_there_is_none(
    resume_ends_with, called, code, tmp_path
):
    script, _ = yaml.safe_load_all(read("kuberay-rayjob.yaml"))
    program = tmp_path / "gcc-search"
    program.write_text(
        f'#!/bin/bash\necho "$1" >> {tmp_path}/calls\n[ "$1" = resume ] && exit {resume_ends_with}\nexit 7\n'
    )
    program.chmod(0o755)
    assert run(script["data"]["run.sh"], tmp_path, path=f"{tmp_path}:/usr/bin:/bin") == code
    assert (tmp_path / "calls").read_text().split() == called
