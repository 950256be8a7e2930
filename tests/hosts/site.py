"""Everything that the steps need, made before the first and gone after the last."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.hosts.machines import NAMES, NAMESPACES, WORKERS, Host, furnish, made_host
from tests.hosts.network import NETEM, TBF, Lan, made_lan

# Of the folders' names; the process that made one follows.
FOLDER = "gcc-hosts-"
_PROGRAMS = {
    "iproute2": ("ip", "tc"),
    "openssh-server": ("sshd",),
    "openssh-client": ("ssh", "ssh-keygen"),
    "rsync": ("rsync",),
    "util-linux": ("unshare", "nsenter", "setpriv"),
}
# Of all that hosts and their network are made of, a bit.
_TRIED = f"""
hostname tried
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add lan type bridge
ip link add port type veth peer name eth0
ip link set port master lan up
tc qdisc replace dev port root {" ".join(NETEM)} 2> /run/said || tc qdisc replace dev port root {" ".join(TBF)}
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The hosts by name, their network, the test's folder; below it `shared`, the disk that all of them mount."""

    base: Path
    lan: Lan
    hosts: dict[str, Host]

    @property
    def laptop(self) -> Host:
        return self.hosts["laptop"]

    @property
    def head(self) -> Host:
        return self.hosts["head"]

    @property
    def cluster(self) -> list[Host]:
        """The hosts that Ray runs on."""
        return [self.hosts[name] for name in ("head", *WORKERS)]


def why_not() -> str | None:
    """What this machine lacks for the test; None: nothing."""
    if os.geteuid() != 0:
        return "not root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for package, programs in _PROGRAMS.items():
        if missing := [name for name in programs if shutil.which(name, path=path) is None]:
            return f"no {missing[0]} (Debian: {package})"
    command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "sh", "-ec", _TRIED]
    tried = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines()
    return f"no right to make hosts and networks of namespaces ({said[-1] if said else 'no reason given'})"


@contextlib.contextmanager
def made_site() -> Iterator[Site]:
    remove_stale()
    base = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))
    base.chmod(0o755)
    try:
        furnish(base)
        with contextlib.ExitStack() as stack:
            lan = stack.enter_context(made_lan())
            hosts = {name: stack.enter_context(made_host(name, base, lan)) for name in NAMES}
            yield Site(base=base, lan=lan, hosts=hosts)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def remove_stale() -> None:
    """Folders of tests that were killed. Their hosts have ended with them, and networks and mounts with the hosts."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        pid = folder.name.removeprefix(FOLDER).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
