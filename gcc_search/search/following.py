"""Searches that run on a cluster, seen from elsewhere: their log and live table, their state, their end."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gcc_search.errors import UnreachableError
from gcc_search.saying import pass_on, say
from gcc_search.search.frames import read_frame
from gcc_search.search.job_client import JobClient
from gcc_search.search.submission import STOP_SECONDS, results_of

# Between tries to reach a cluster that answered before.
RECONNECT_SECONDS = 5.0
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STOPPED_BY_USER = 130


def follow(job: str, client: JobClient, console: Console) -> int:
    """Prints what the search prints, and its live table on a terminal, until it ends. Its exit code.

    A connection that is lost is made again; what was printed before is not printed twice.

    Raises:
        ClusterError: the cluster knows no such job.
    """
    client.info(job)
    shown = 0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            try:
                for number, line in enumerate(client.follow(job)):
                    if number >= shown:
                        shown = number + 1
                        show_line(line, live, console)
                found = client.info(job)
            except UnreachableError:
                live.update(Text("connection lost; the search goes on, and is looked for again"), refresh=True)
                time.sleep(RECONNECT_SECONDS)
                continue
            if str(found.status) in _ENDED:
                live.update(Text(), refresh=True)
                return _exit_code(found)
            time.sleep(1)


def show_line(line: str, live: Live, console: Console) -> None:
    """One line of a search that runs elsewhere; its table, if it is one."""
    frame = read_frame(line)
    if frame is None:
        pass_on(console, line)
    elif console.is_terminal:
        live.update(Text.from_ansi(frame), refresh=True)


def _exit_code(job: Any) -> int:
    if str(job.status) == "STOPPED":
        return STOPPED_BY_USER
    code = job.driver_exit_code
    return int(code) if code is not None else int(str(job.status) != "SUCCEEDED")


def print_logs(job: str, client: JobClient, console: Console) -> None:
    """All that the search has printed so far."""
    client.info(job)
    # No more than a line's end: splitlines() also splits at the mark of a table's line.
    *lines, rest = client.logs(job).split("\n")
    for line in (*lines, rest) if rest else lines:
        if read_frame(line) is None:
            pass_on(console, line)


def stop(job: str, client: JobClient) -> str:
    """Asks the search to stop, as Ctrl-C would, and waits until it has. How it ended."""
    client.info(job)
    client.stop(job)
    until = time.monotonic() + 2 * STOP_SECONDS
    while (status := str(client.info(job).status)) not in _ENDED and time.monotonic() < until:
        time.sleep(0.5)
    return status


def print_status(job: str, client: JobClient, console: Console) -> None:
    """One job, a line for each thing there is to know."""
    found = client.info(job)
    code = "" if found.driver_exit_code is None else f", exit code {found.driver_exit_code}"
    lines = {
        "job": found.submission_id,
        "status": f"{found.status}{code}",
        "message": (found.message or "").splitlines()[:1],
        "started": _told_time(found.start_time),
        "ended": _told_time(found.end_time),
        "results": results_of(found),
        "command": found.entrypoint,
    }
    for name, value in lines.items():
        if value:
            say(console, f"{name:<8} {value[0] if isinstance(value, list) else value}")


def print_list(client: JobClient, console: Console) -> None:
    """The searches that the cluster knows of, the latest first."""
    jobs = [job for job in client.jobs() if results_of(job)]
    table = Table(box=None)
    # An id is copied, and must be whole.
    table.add_column("job", no_wrap=True)
    for heading in ("status", "started", "ended", "results"):
        table.add_column(heading, overflow="fold")
    for job in sorted(jobs, key=lambda item: item.start_time or 0, reverse=True):
        times = (_told_time(job.start_time), _told_time(job.end_time))
        table.add_row(job.submission_id, str(job.status), *times, results_of(job))
    if jobs:
        console.print(table)
    else:
        say(console, "no searches yet; hand one in: gcc-search submit --space FILE --out PLACE")


def _told_time(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().isoformat(" ", timespec="seconds")
