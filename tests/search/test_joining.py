"""Joining a cluster from the command line: a real one, and what is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from gcc_search.errors import ResourceError
from gcc_search.search.joining import joined_ray
from tests.search.conftest import TINY


def start(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "space.yaml").write_text(yaml.safe_dump(TINY | {"run_cap": 2}))
    command = [sys.executable, "-m", "gcc_search", "--space", "space.yaml", "--gpus", "0", *options]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=240, check=False, env=os.environ | environment
    )


def test_a_search_in_a_cluster_uses_its_machines_and_leaves_it_running(cluster, tmp_path):
    import ray

    done = start(tmp_path, "--address", cluster.address, "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["trials"]["finished"]) == (0, 2), done.stderr
    assert len([node for node in ray.nodes() if node["Alive"]]) == 3


def test_another_token_is_one_line(cluster, tmp_path):
    done = start(tmp_path, "--address", cluster.address, RAY_AUTH_TOKEN="of another cluster, and long enough")
    assert done.returncode == 1
    told = "--address: must be a Ray cluster that knows this machine's token, got one with another token"
    assert done.stderr.startswith(f"gcc-search: {told}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "must be a Ray cluster that answers, got 127.0.0.1:1: 127.0.0.1:1: Connection refused"),
        ("nowhere", "must be auto, HOST:PORT or ray://HOST:PORT, got nowhere"),
        ("127.0.0.1:99999999999", "must be a Ray cluster that answers, got 127.0.0.1:99999999999"),
    ],
)
def test_what_is_no_cluster_is_one_line(tmp_path, address, told):
    done = start(tmp_path, "--address", address)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"gcc-search: --address: {told}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_what_listens_and_is_no_ray_is_one_line(monkeypatch):
    monkeypatch.setattr("gcc_search.search.joining.ANSWER_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        joining = joined_ray(f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ResourceError) as error, joining:
            pass
    assert "no answer within 3 s" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_search_without_an_address_has_a_ray_of_its_own_whatever_ray_address_says(cluster):
    code = """
        import ray
        from gcc_search.search.cluster import is_shared, local_ray
        from gcc_search.search.machines import plan_machines
        from gcc_search.vocabulary import Resources
        with local_ray(plan_machines(Resources(), gpus=0)):
            print(ray.get(ray.remote(lambda: len(ray.nodes())).remote()), is_shared())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert (done.stdout, done.returncode) == ("1 False\n", 0), done.stderr
