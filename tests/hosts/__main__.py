"""`python -m tests.hosts`: a cluster of several hosts on one machine, real ssh and real Ray, and what may befall it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.hosts import faults, refusals
from tests.hosts.launch import forwarded, launch, wait_for_nodes
from tests.hosts.machines import SHORTENED
from tests.hosts.report import Done, Result, Step, do, print_table, write_json
from tests.hosts.site import Site, made_site, why_not

STEPS = (
    Step(name="undisturbed", what="submit, status, list, logs --follow at the laptop", do=faults.search_undisturbed),
    Step(name="cut", what="a worker's link cut, later healed", do=faults.cut_and_heal),
    Step(name="stranger", what="a host without the token, and with another", do=refusals.refuse_stranger),
    Step(name="private", what="--out in a folder that is not shared", do=refusals.refuse_private_place),
    Step(name="images", what="other images on one host", do=refusals.refuse_other_images),
    Step(name="slow", what="all traffic delayed and dropped", do=faults.slow_down),
    Step(name="driver", what="the driver killed, then resume --address auto", do=faults.kill_driver),
    Step(name="killed", what="a worker killed, with all that runs there", do=faults.kill_host),
)


def start(site: Site) -> Result:
    """As README says: `ray up` at the laptop, over ssh."""
    printed = launch(site.laptop, site.base)
    (site.base / "printed" / "ray-up.txt").write_text(printed)
    nodes = wait_for_nodes(site.head, 3)
    return Result(f"ray up: a head and {len(nodes) - 1} workers", figures={"machines": nodes})


START = Step(name="launch", what="ray up over ssh, tokens, dashboard on the head's 127.0.0.1", do=start)


def main() -> int:
    """0 where everything held, and where the machine cannot do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for hosts.json and what was printed; default: a temporary one")
    parser.add_argument("--steps", nargs="+", choices=[step.name for step in STEPS], help="default: all")
    asked, console = parser.parse_args(), Console()
    if reason := why_not():
        console.print(f"the test of several hosts is left out: {reason}", soft_wrap=True)
        return 0
    out = asked.out or Path(tempfile.mkdtemp(prefix="gcc-cluster-test-"))
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"so that lost machines are given up within seconds: {SHORTENED}", soft_wrap=True, highlight=False)
    began, steps = time.monotonic(), [step for step in STEPS if step.name in (asked.steps or [s.name for s in STEPS])]
    with made_site() as site:
        (site.base / "printed").mkdir()
        done = [do(START, site, console)]
        if done[0].held:
            done += _do_all(steps, site, console)
        shutil.copytree(site.base / "printed", out / "printed", dirs_exist_ok=True)
    print_table(done, console)
    seconds = round(time.monotonic() - began, 1)
    write_json(
        out / "hosts.json",
        done,
        command="python -m tests.hosts",
        seconds=seconds,
        cores=os.cpu_count(),
        shortened=SHORTENED,
    )
    console.print(f"{seconds:.0f} s; figures and what was printed: {out}", soft_wrap=True)
    return 0 if all(step.held for step in done) else 1


def _do_all(steps: list[Step], site: Site, console: Console) -> list[Done]:
    with forwarded(site.laptop):
        return [do(step, site, console) for step in steps]


if __name__ == "__main__":
    sys.exit(main())
