"""Searches through which something breaks, each counted afterwards."""

from __future__ import annotations

import time

import psutil

from tests.faults.census import finished_files
from tests.hosts.census import take_census, wait_for_silence
from tests.hosts.launch import living, ssh, wait_until
from tests.hosts.machines import WORKERS, Host
from tests.hosts.report import Result
from tests.hosts.searches import SPACE, Search, answers, follow, hand_in, records
from tests.hosts.site import Site

CAP = SPACE["run_cap"]
# The cut-off host's own trial is one failure; the other host's is none.
ONE_FAILURE = 1


def search_undisturbed(site: Site) -> Result:
    """Handed in and watched from the laptop, as README says."""
    # Trials so long that the second host's worker is up before the first host is free again.
    data = SPACE["data"] | {"num_images": 4500}
    search = hand_in(site.laptop, site.base, "undisturbed", data=data, run_cap=len(WORKERS))
    search.wait_for_line("started", seconds=120)
    seen = answers(site.laptop, "status", search.job), answers(site.laptop, "list")
    code = follow_logs(search, site.laptop)
    problems = _expect("exit code", search.wait(), 0) + wait_for_silence(site.cluster)
    problems += take_census(search.run, search.transcript, asked=len(WORKERS))
    problems += _expect("logs --follow", code, 0)
    problems += [
        f"not told: {text}" for text, told in (("RUNNING", seen[0]), (search.job, seen[1])) if text not in told
    ]
    hosts = sorted({record["node"] for record in records(search.run)})
    problems += _expect("hosts that trained", hosts, list(WORKERS))
    return Result(f"trials side by side on {', '.join(hosts)}; status, list, logs --follow say so", problems)


def follow_logs(search: Search, laptop: Host) -> int:
    """The exit code of a second look at the same search, which must see the same."""
    done = laptop.run("gcc-search", "logs", search.job, "--follow", "--address", "http://127.0.0.1:8265", seconds=240)
    search.wait()
    missing = [line for line in search.transcript.splitlines()[1:] if line not in done.stdout]
    return done.returncode if not missing else -1


def cut_and_heal(site: Site) -> Result:
    """For longer than Ray takes to give a host up; the shared disk stays with it, as no real one would."""
    search = hand_in(site.laptop, site.base, "cut")
    caught, before = search.wait_for_trial_on(*WORKERS), finished_files(search.run)
    name = caught["node"]
    site.lan.cut(name)
    try:
        given_up = search.wait_for_line("tried again")
        time.sleep(10)
    finally:
        site.lan.heal(name)
    healed = time.monotonic()
    problems = _ended(search, site, before, failures=ONE_FAILURE)
    wait_until(lambda: len(living(site.head)) == 3, "the host that was cut off", seconds=180, pause=2)
    back = time.monotonic() - healed
    came = f"{name} given up after {given_up:.0f} s; its trial went on elsewhere; {name} was back after {back:.0f} s"
    return Result(came, problems, {"given_up_seconds": round(given_up, 1), "back_seconds": round(back, 1)})


def slow_down(site: Site) -> Result:
    """Delays and drops everything between the cluster's hosts, from the middle of a trial to the end."""
    ports = [host.name for host in site.cluster]
    search = hand_in(site.laptop, site.base, "slow")
    search.wait_for_trial_on(*WORKERS)
    before = finished_files(search.run)
    how = site.lan.slow(ports)
    try:
        search.wait()
        dropped = sum(site.lan.dropped(port) for port in ports)
    finally:
        site.lan.speed_up(ports)
    problems = _ended(search, site, before, failures=0)
    problems += [] if dropped else ["nothing was dropped: not slow enough to tell"]
    return Result(f"{CAP} trials with {how}; {dropped} packets dropped", problems, {"how": how, "dropped": dropped})


def kill_driver(site: Site) -> Result:
    """SIGKILL to the search on the head, and `resume --address auto` there, over ssh."""
    search = hand_in(site.laptop, site.base, "driver")
    search.wait_for_trial_on(*WORKERS)
    before = finished_files(search.run)
    (driver,) = [process for process in site.head.processes() if _is_driver(process)]
    driver.kill()
    code = search.wait()
    words = ssh("head", f"gcc-search resume {search.run} --address auto --gpus 0")
    resumed = follow(search, site.laptop, site.base / "printed" / "driver-resumed.txt", *words)
    problems = _expect("exit code of resume", resumed, 0) + ([] if code else ["a killed search ended with 0"])
    problems += take_census(search.run, search.transcript, asked=CAP, before=before)
    problems += wait_for_silence(site.cluster)
    again = sum(record["attempts"] - 1 for record in records(search.run))
    problems += [] if again else ["no trial was under way when the driver was killed"]
    told = f"submit ended with {code}; resume kept {len(before)} finished networks, {again} went on"
    return Result(told, problems, {"code": code, "kept": len(before), "went_on": again})


def kill_host(site: Site) -> Result:
    """As if its plug were pulled: the link first, so that nobody says goodbye, then every process on it at once."""
    search = hand_in(site.laptop, site.base, "killed")
    caught, before = search.wait_for_trial_on(*WORKERS), finished_files(search.run)
    site.lan.cut(caught["node"])
    site.hosts[caught["node"]].kill()
    given_up = search.wait_for_line("tried again")
    problems = _ended(search, site, before, failures=ONE_FAILURE)
    problems += _expect("machines left", len(living(site.head)), 2)
    came = f"{caught['node']} given up after {given_up:.0f} s; {CAP} trials ended on the one that was left"
    return Result(came, problems, {"given_up_seconds": round(given_up, 1)})


def _ended(search: Search, site: Site, before: dict[str, dict[str, bytes]], *, failures: int) -> list[str]:
    problems = _expect("exit code", search.wait(), 0)
    problems += take_census(search.run, search.transcript, asked=CAP, before=before, failures=failures)
    return problems + wait_for_silence(site.cluster)


def _expect(told: str, found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{told}: {wanted} expected, got {found}"]


def _is_driver(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return words[1:3] == ["-m", "gcc_search"] and "--space" in words
