"""What a cluster does not let in, and what it does not start with: each told in a line that says why."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.hosts.launch import DASHBOARD, GCS, forwarded, living, run
from tests.hosts.machines import ADDRESSES, WORKERS, Host
from tests.hosts.report import Result
from tests.hosts.searches import SPACE, hand_in
from tests.hosts.site import Site

_TOKEN = "must be a Ray cluster that knows this machine's token"
PRIVATE = Path("/tmp/private")
_PICTURES = """
import random, pathlib, sys
from PIL import Image
rng = random.Random(int(sys.argv[1]))
for label in ("bright", "dark"):
    folder = pathlib.Path(sys.argv[2], label)
    folder.mkdir(parents=True)
    for number in range(20):
        Image.frombytes("RGB", (40, 40), rng.randbytes(4800)).save(folder / f"{number:02d}.png")
"""


def refuse_stranger(site: Site) -> Result:
    """A machine on the same network that does not have the token: none at first, then one of its own."""
    stranger, before = site.hosts["stranger"], living(site.head)
    space = site.base / "stranger.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    problems = _joins_not(stranger, "no token")
    run(stranger, "ray", "get-auth-token", "--generate")
    problems += _joins_not(stranger, "another token")
    refused = {
        "--address": _refused(stranger, _TOKEN, "--space", str(space), "--gpus", "0", "--address", GCS),
        "list, of the head's dashboard": _refused(
            stranger, "must be a Ray dashboard", "list", "--address", f"http://{ADDRESSES['head']}:8265"
        ),
    }
    run(stranger, "install", "-Dm600", str(site.base / "key"), str(Path.home() / ".ssh" / "id_ed25519"))
    with forwarded(stranger):
        for name, words in {
            "list": ("list",),
            "logs --follow": ("logs", "raysubmit_1", "--follow"),
            "submit": ("submit", "--space", str(space), "--out", str(site.base / "shared" / "runs"), "--gpus", "0"),
        }.items():
            refused[f"{name}, of a forwarded one"] = _refused(stranger, _TOKEN, *words, "--address", DASHBOARD)
    problems += [f"{name}: {told}" for name, told in refused.items() if told]
    if (after := living(site.head)) != before:
        problems.append(f"machines in the cluster: {before} before, {after} after")
    return Result(f"ray start refused twice, {len(refused)} commands refused with a line each", problems)


def _joins_not(stranger: Host, told: str) -> list[str]:
    done = stranger.run("ray", "start", f"--address={GCS}", seconds=90)
    stranger.run("ray", "stop", "--force")
    return [f"ray start with {told} ended with 0"] if done.returncode == 0 else []


def _refused(host: Host, reason: str, *words: str) -> str | None:
    """What is wrong with how a command was refused; None where it ended with 1 and one line with the reason."""
    done = host.run("gcc-search", *words)
    lines = done.stdout.splitlines()
    is_told = len(lines) == 1 and lines[0].startswith("gcc-search: ") and reason in lines[0]
    return None if done.returncode == 1 and is_told else f"exit code {done.returncode}: {done.stdout[-300:]}"


def refuse_private_place(site: Site) -> Result:
    """Results in a folder that each host has for itself."""
    search = hand_in(site.laptop, site.base, "private", out=PRIVATE)
    problems = [] if search.wait() == 1 else ["it did not end with 1"]
    lines = [line for line in search.transcript.splitlines() if "must be the same folder on every machine" in line]
    problems += [
        f"{name}: no line of its own in: {search.transcript}"
        for name in WORKERS
        if sum(f"{ADDRESSES[name]}: {PRIVATE}" in line for line in lines) != 1
    ]
    if site.head.run("test", "-e", str(PRIVATE)).returncode == 0:
        problems.append(f"{PRIVATE} is left on the head")
    return Result(f"refused, a line for each of {len(lines)} hosts", problems)


def refuse_other_images(site: Site) -> Result:
    """A data set at the same path everywhere, with other images on one host."""
    pictures, *rest, other = "/tmp/pictures", *site.cluster
    for host in site.cluster:
        run(host, "python", "-c", _PICTURES, "1" if host is other else "0", pictures)
    search = hand_in(site.laptop, site.base, "pictures", data={"name": "imagefolder", "root": pictures})
    problems = [] if search.wait() == 1 else ["it did not end with 1"]
    wanted = f"{other.address}: images of imagefolder must be those of head, got others; copy them there"
    if wanted not in search.transcript:
        problems.append(f"not told: {wanted}; but {search.transcript}")
    problems += [f"{host.name} is named, too" for host in rest if f"{host.address}: images" in search.transcript]
    if search.run.exists():
        problems.append(f"{search.run} was written")
    return Result(f"refused, {other.address} named and no other", problems)
