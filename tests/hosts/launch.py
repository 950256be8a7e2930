"""Launches Ray on the hosts as a user would: `ray up` from the laptop, with cluster/local.yaml and our addresses."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.hosts.machines import ADDRESSES, ROOT, WORKERS, Host, end

SHIPPED = ROOT / "cluster" / "local.yaml"
DASHBOARD = "http://127.0.0.1:8265"
GCS = f"{ADDRESSES['head']}:6379"
_PORT = "8265:127.0.0.1:8265"
_SSH = ("ssh", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR")
_ALIVE = """
import json, logging, ray
ray.init(address="auto", log_to_driver=False, logging_level=logging.CRITICAL)
print("nodes", json.dumps([node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]))
"""


def write_cluster_file(base: Path) -> Path:
    """cluster/local.yaml with addresses, the shared disk, and without what the hosts have already: the Python."""
    text = SHIPPED.read_text().replace("/shared", str(base / "shared"))
    content: dict[str, Any] = yaml.safe_load(text)
    content["provider"] |= {"head_ip": ADDRESSES["head"], "worker_ips": [ADDRESSES[name] for name in WORKERS]}
    content["auth"]["ssh_user"] = "root"
    content["file_mounts"] = {there: here for there, here in content["file_mounts"].items() if "auth_token" in there}
    content["setup_commands"] = [line for line in content["setup_commands"] if "pip install" not in line]
    (base / "shared" / "data").mkdir()
    path = base / "local.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def exported() -> list[str]:
    """NAME=VALUE, as the file's header has them exported at the laptop."""
    lines = re.findall(r"^# +export (.*?)(?: +#.*)?$", SHIPPED.read_text(), re.MULTILINE)
    return [word for line in lines for word in line.split()]


def launch(laptop: Host, base: Path) -> str:
    """What the laptop printed until the head was up; the workers follow."""
    run(laptop, "install", "-Dm600", str(base / "key"), str(Path.home() / ".ssh" / "id_ed25519"))
    run(laptop, "ray", "get-auth-token", "--generate")
    words = ("ray", "up", "--yes", "--no-config-cache", str(write_cluster_file(base)))
    return run(laptop, "env", *exported(), *words, seconds=300)


def run(host: Host, *words: str, seconds: float = 120) -> str:
    """What a command that must not fail printed."""
    done = host.run(*words, seconds=seconds)
    if done.returncode != 0:
        raise RuntimeError(f"{host.name}: {' '.join(words)}: exit code {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def ssh(name: str, command: str) -> tuple[str, ...]:
    """The words that run a command on another host."""
    return (*_SSH, name, command)


def living(head: Host) -> list[str]:
    """The addresses of the machines that Ray believes to live."""
    printed = run(head, "python", "-c", _ALIVE)
    return sorted(json.loads(next(line for line in printed.splitlines() if line.startswith("nodes ")).split(" ", 1)[1]))


def wait_for_nodes(head: Host, count: int, *, seconds: float = 240) -> list[str]:
    wait_until(lambda: len(living(head)) == count, f"{count} machines in the cluster", seconds=seconds, pause=2)
    return living(head)


@contextlib.contextmanager
def forwarded(host: Host, *, to: str = "head") -> Iterator[None]:
    """Within, the head's dashboard is at DASHBOARD on `host`."""
    options = ("-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=5")
    process = host.start(*_SSH, *options, "-N", "-L", _PORT, to, stdout=subprocess.DEVNULL)
    try:
        probe = "import socket; socket.create_connection(('127.0.0.1', 8265), timeout=1).close()"
        wait_until(lambda: host.run("python", "-c", probe).returncode == 0, "the dashboard through ssh", seconds=30)
        yield
    finally:
        end(process)


def wait_until(holds: Callable[[], bool], told: str, *, seconds: float, pause: float = 0.2) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"waited {seconds:.0f} s for {told}")
        time.sleep(pause)
    return time.monotonic() - began
