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

from tests.hosts.machines import NAMES, WORKERS, Host, furnish, made_host
from tests.hosts.network import Lan, made_lan

# Of the folders' names; the process that made one follows.
FOLDER = "gcc-hosts-"
_PROGRAMS = {
    "iproute2": ("ip", "tc"),
    "openssh-server": ("sshd",),
    "openssh-client": ("ssh", "ssh-keygen"),
    "rsync": ("rsync",),
    "util-linux": ("unshare", "nsenter", "setpriv"),
}


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
    tried = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount", "true"], capture_output=True, check=False)
    return "no right to make namespaces" if tried.returncode else None


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
