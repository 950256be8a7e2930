"""A search that is started on a cluster's head through Ray Client, and seen and stopped here as if it ran here.

Ray Tune itself does not run through Ray Client, and the results are the cluster's: so the whole command runs on the
head (`head_search.py`). It ends with this process, in an orderly way whatever ends this one (`tether.py`).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console
from rich.live import Live
from rich.text import Text

from gcc_search.errors import ClusterError, SpaceError
from gcc_search.saying import say
from gcc_search.search.following import STOPPED_BY_USER, show_line
from gcc_search.search.frames import read_frame
from gcc_search.search.going_on import hang_up, heeded, resume_command
from gcc_search.search.head_search import HeadSearch, Said
from gcc_search.search.ray_client import ON_HEAD, connected
from gcc_search.search.submission import check_place, make_submission

_UNWATCHED = "what gcc-search submit starts needs nobody to watch it"
_ENDED_THERE = f"it was asked to end there, or nothing was heard of this machine for a minute; {_UNWATCHED}"


@dataclass(frozen=True, kw_only=True)
class Errand:
    """`gcc-search WORDS` on a head, in a folder with `files` (contents by name).

    Args:
        as_json: its stdout is for machines, and people read its stderr.
        resume: the command that goes on with it, from here.
    """

    address: str
    words: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    as_json: bool
    resume: str


def search_remotely(space: Path, *, address: str, out: str, options: dict[str, Any]) -> int:
    """Runs `gcc-search search` on the head. Its exit code.

    Args:
        options: of `gcc-search search`, by name without dashes; those that are None or False are left out.

    Raises:
        SpaceError: the space file is wrong, or a path is one of this machine's.
        ResourceError, ClusterError: see `ray_client.connected`, or the connection was lost.
    """
    _check_storage(options)
    submission = make_submission(space, out=out, options=options)
    return _run(
        Errand(
            address=address,
            words=("--space", space.name, "--address", address, *submission.options),
            files={space.name: space.read_bytes()},
            as_json=options["format"] == "json",
            resume=_resume_command(submission.results, address, options),
        )
    )


def resume_remotely(run: str, *, address: str, options: dict[str, Any]) -> int:
    """Runs `gcc-search resume` on the head, as `search_remotely`."""
    _check_storage(options)
    check_place("RUN", run)
    if options["data-root"] is not None:
        check_place("--data-root", options["data-root"])
    given = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return _run(
        Errand(
            address=address,
            words=("resume", run, "--address", address, *given),
            as_json=options["format"] == "json",
            resume=_resume_command(run, address, options),
        )
    )


def _check_storage(options: dict[str, Any]) -> None:
    storage = options["storage"] or ""
    if storage.startswith("sqlite:///") and not storage.startswith("sqlite:////"):
        raise SpaceError(f"--storage: must be a whole path on the cluster, got {storage}; begin it with sqlite:////")


def _resume_command(run: str, address: str, options: dict[str, Any]) -> str:
    return resume_command(run, gpus=options["gpus"], storage=options["storage"], address=address)


def _run(errand: Errand) -> int:
    where, go_on = f"--address: {errand.address}", f"go on: {errand.resume}"
    with connected(errand.address):
        try:
            there = ray.remote(HeadSearch).options(**ON_HEAD).remote(list(errand.words), dict(errand.files))
            code = _watch(there, errand)
        except KeyboardInterrupt:
            say(Console(stderr=True), f"the search there ends without us; {go_on}")
            raise
        except (ConnectionError, RayError) as error:
            lost = f"connection lost ({type(error).__name__}), and the search there ends with it"
            raise ClusterError(f"{where}: {lost}; {go_on} ({_UNWATCHED})") from None
    if code is None or code < 0:
        how = "without a word" if code is None else f"by signal {-code}"
        raise ClusterError(f"{where}: the search there has ended {how}; {go_on}")
    return code


def _watch(there: Any, errand: Errand) -> int | None:
    """Shows what it says until it has ended; its exit code."""
    console = Console(stderr=errand.as_json)
    table = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    with table, _asked_to_stop() as asks:
        has_told = False
        while True:
            if asks and not has_told:
                has_told = True
                there.stop.remote()
            lines: list[Said] = ray.get(there.read.remote())
            for stream, line in lines:
                if stream != "exit":
                    _show(stream, str(line), table, console, as_json=errand.as_json)
                    continue
                if line == STOPPED_BY_USER and not has_told:
                    say(console, _ENDED_THERE)
                return None if line is None else int(line)


def _show(stream: str, line: str, table: Live, console: Console, *, as_json: bool) -> None:
    if read_frame(line) is not None or (stream == "err") == as_json:
        show_line(line, table, console)
        return
    # The table is in the way, where both go to one terminal; the next one comes soon.
    table.update(Text(), refresh=True)
    if as_json:
        print(line, flush=True)
    else:
        say(Console(stderr=True), line)


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """The signals that have asked for an end, as they come. The second one raises KeyboardInterrupt."""
    asks: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asks.append(number)
        if number == signal.SIGHUP:
            hang_up()
        if len(asks) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in heeded()}
    try:
        yield asks
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
