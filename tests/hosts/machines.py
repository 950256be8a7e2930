"""Hosts: each with its own network, processes, name, /tmp and home, and an sshd; they share the disk and the Python."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.hosts.network import START_SECONDS, SUBNET, TIED, Lan, wait_for_namespace

ROOT = Path(__file__).parent.parent.parent
NAMES = ("laptop", "head", "worker-1", "worker-2", "stranger")
WORKERS = ("worker-1", "worker-2")
ADDRESSES = {name: f"{SUBNET}.{10 + number}" for number, name in enumerate(NAMES)}
NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid")
# So that a lost machine is given up after seconds: Ray's own default is half a minute and more.
SHORTENED = "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=5"
_SSHD = """
HostKey {base}/host_key
AuthorizedKeysFile {base}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
SetEnv PYTHONPATH={root} LC_ALL=C.UTF-8
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """One machine, by the process that is its first."""

    name: str
    pid: int

    @property
    def address(self) -> str:
        return ADDRESSES[self.name]

    def run(self, *words: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """What a user at its keyboard gets from a command; stderr is part of stdout."""
        with self.start(*words, stdout=subprocess.PIPE, text=True) as process:
            try:
                printed, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                end(process)
                printed = f"{process.communicate()[0]}\nended after {seconds:.0f} s"
        return subprocess.CompletedProcess(words, process.returncode, printed)

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        home = Path.home()
        environment = {
            "HOME": str(home),
            "PATH": f"{home}/gcc-search-env/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "COLUMNS": "200",
        }
        command = ["nsenter", "--target", str(self.pid), *NAMESPACES, f"--wdns={home}", *words]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, **options)  # type: ignore[call-overload]

    def processes(self) -> list[psutil.Process]:
        """All that live on it, its first one included."""
        ours = _pid_namespace(self.pid)
        return [process for process in psutil.process_iter() if _pid_namespace(process.pid) == ours]

    def kill(self) -> None:
        """All of it at once and without warning: the kernel ends every process with the first one."""
        psutil.Process(self.pid).kill()


@contextlib.contextmanager
def made_host(name: str, base: Path, lan: Lan) -> Iterator[Host]:
    """A host on the network, with its sshd up. At the end all that ran on it is gone, with its network and mounts."""
    kept = {str(path) for path in (base, ROOT, Path(sys.prefix), Path(sys.base_prefix))}
    environment = {
        "NAME": name,
        "BASE": str(base),
        "HOME": str(Path.home()),
        "KEPT": " ".join(sorted(kept)),
        "SHORTENED": SHORTENED,
        "VENV": sys.prefix,
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    }
    unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
    command = [*TIED, *unshare, "sh", str(Path(__file__).with_name("host.sh"))]
    with (base / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        host = Host(name=name, pid=_child_of(process))
        wait_for_namespace(host.pid)
        lan.plug(name, host.address, host.pid)
        _wait_for_sshd(host, process, base / f"{name}.log")
        yield host
    finally:
        process.kill()
        process.wait()


def end(process: subprocess.Popen[str]) -> None:
    """A command on a host: nsenter, and what it started there."""
    for each in (*psutil.Process(process.pid).children(recursive=True), process):
        each.kill()
    process.wait()


def furnish(base: Path) -> None:
    """The files that every host looks at: names, keys, sshd's settings; and the shared disk."""
    (base / "shared").mkdir()
    (base / "hosts").write_text(
        "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
    )
    (base / "sshd_config").write_text(_SSHD.format(base=base, root=ROOT))
    for key in ("key", "host_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "gcc-hosts", "-f", str(base / key)]
        subprocess.run(command, check=True)


def _child_of(process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if children := psutil.Process(process.pid).children():
            return int(children[0].pid)
        time.sleep(0.01)
    raise TimeoutError("unshare started nothing")


def _wait_for_sshd(host: Host, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while "sshd" not in Path(f"/proc/{host.pid}/comm").read_text():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{host.name}: did not start: {log.read_text()}")
        time.sleep(0.02)


def _pid_namespace(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        # Gone meanwhile.
        return None
