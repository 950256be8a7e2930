"""A Ray head in processes of its own, for those that reach it from outside."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")


# Above those that Ray gives to workers, below those that a system gives to connections: some of a head's processes bind
# theirs seconds after the others, and one that is taken meanwhile leaves the head without an agent for jobs.
FREE_PORTS = range(20_000, 32_768)


def free_port() -> int:
    while True:
        port = random.choice(FREE_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def running_head(folder: Path) -> Iterator[dict[str, int]]:
    """Yields its ports, by the name of Ray's option; the dashboard's and the client server's answer."""
    ports = {name: free_port() for name in PORTS}
    options = [word for name, port in ports.items() for word in (f"--{name}", str(port))]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2", *options]
    # Socket paths are short.
    place = f"/tmp/gcc-head-{ports['port']}"
    scratch = ["--temp-dir", place, "--dashboard-host", "127.0.0.1"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # With gRPC's own handlers of forks, one of a dozen servers that a head starts for its clients dies at once, and Ray
    # waits for it for 30 seconds; without them, none of 52 did.
    environment = os.environ | {"PATH": path, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    with (folder / "printed.txt").open("wb") as log:
        process = subprocess.Popen([*ray, *scratch], stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        for name in ("dashboard-port", "ray-client-server-port"):
            _wait_for(ports[name], process)
        yield ports
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        for child in psutil.wait_procs(children, timeout=10)[1]:
            child.kill()
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.2)
