"""A local network of namespaces: one of its own for the bridge, one for each host, veth pairs between them.

None has a name: they end with the processes in them, and those with the test, however it ends.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUBNET = "10.77.0"
GATEWAY = f"{SUBNET}.1"
# Ends a process with the thread that started it, by the kernel.
TIED = ("setpriv", "--pdeathsig", "KILL")
START_SECONDS = 10.0

# Of traffic that is to be slowed: what this kernel may have, the better one first.
NETEM = ("netem", "delay", "150ms", "50ms", "loss", "3%")
TBF = ("tbf", "rate", "1mbit", "burst", "8kb", "latency", "60ms")


@dataclass(frozen=True, kw_only=True)
class Lan:
    """The bridge's namespace, by the process that holds it. Each host has a port there by its name."""

    pid: int

    def plug(self, port: str, address: str, host: int) -> None:
        """Joins the namespace of process `host` to the network."""
        self._ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host))
        self._ip("link", "set", port, "master", "lan", "up")
        for words in (
            ("address", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", GATEWAY),
        ):
            _within(host, "ip", *words)

    def cut(self, port: str) -> None:
        """As if its cable were pulled."""
        self._ip("link", "set", port, "down")

    def heal(self, port: str) -> None:
        self._ip("link", "set", port, "up")

    def slow(self, ports: list[str]) -> str:
        """Delays and drops what goes to `ports`. How, in tc's words."""
        for discipline in (NETEM, TBF):
            try:
                for port in ports:
                    _within(self.pid, "tc", "qdisc", "replace", "dev", port, "root", *discipline)
            except subprocess.CalledProcessError:
                continue
            return " ".join(discipline)
        raise RuntimeError("this kernel has neither netem nor tbf")

    def dropped(self, port: str) -> int:
        """How many packets to `port` have been dropped since it was slowed."""
        words = _within(self.pid, "tc", "-s", "qdisc", "show", "dev", port).split("dropped ")
        return int(words[1].split(",")[0])

    def speed_up(self, ports: list[str]) -> None:
        for port in ports:
            _within(self.pid, "tc", "qdisc", "del", "dev", port, "root")

    def _ip(self, *words: str) -> None:
        _within(self.pid, "ip", *words)


@contextlib.contextmanager
def made_lan() -> Iterator[Lan]:
    process = subprocess.Popen([*TIED, "unshare", "--net", "sleep", "infinity"])
    try:
        wait_for_namespace(process.pid)
        lan = Lan(pid=process.pid)
        _within(lan.pid, "ip", "link", "add", "lan", "type", "bridge")
        _within(lan.pid, "ip", "address", "add", f"{GATEWAY}/24", "dev", "lan")
        _within(lan.pid, "ip", "link", "set", "lan", "up")
        yield lan
    finally:
        process.kill()
        process.wait()


def wait_for_namespace(pid: int) -> None:
    """Until the process has a network of its own."""
    ours = Path("/proc/self/ns/net").readlink()
    until = time.monotonic() + START_SECONDS
    while Path(f"/proc/{pid}/ns/net").readlink() == ours:
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid} got no network of its own")
        time.sleep(0.01)


def _within(pid: int, *words: str) -> str:
    """What `words` print, run in the network of process `pid`."""
    command = ["nsenter", "--target", str(pid), "--net", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
