"""Waits where a disk is full: hours of training must not end over a file that somebody can delete."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from gcc_search.errors import DiskFullError, ResourceError

LIMIT_VARIABLE = "GCC_SEARCH_FULL_DISK_SECONDS"
LIMIT_SECONDS = 3600.0
# Between tries: doubled from the first to the longest.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2.0, 30.0


def _say_nothing(line: str) -> None:
    """For who is not listened to."""


def _do_nothing() -> None:
    """For who is not watched."""


@dataclass(frozen=True, kw_only=True)
class Contact:
    """How work that takes long makes itself heard: `tell` a line for people, `beat` that it is alive."""

    tell: Callable[[str], None] = _say_nothing
    beat: Callable[[], None] = _do_nothing


UNHEARD = Contact()


def patiently(write: Callable[[], object], contact: Contact) -> None:
    """Calls `write`, and where the disk is full, again every few seconds until there is room.

    Raises:
        DiskFullError: no room for `LIMIT_SECONDS`, or for what $GCC_SEARCH_FULL_DISK_SECONDS says.
    """
    began, wait = time.monotonic(), FIRST_WAIT_SECONDS
    while True:
        try:
            write()
        except DiskFullError as error:
            limit, waited = seconds_from(LIMIT_VARIABLE, LIMIT_SECONDS), time.monotonic() - began
            if waited >= limit:
                raise DiskFullError(f"{error} (waited {waited / 60:.0f} minutes)") from None
            if wait == FIRST_WAIT_SECONDS:
                contact.tell(f"paused, the disk is full: {error}; tries again for {limit / 60:.0f} minutes")
            contact.beat()
            time.sleep(min(wait, limit - waited))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        else:
            break
    if wait > FIRST_WAIT_SECONDS:
        contact.tell("goes on: there is room on the disk again")


def check_limit() -> None:
    """Raises ResourceError where $GCC_SEARCH_FULL_DISK_SECONDS is no number: not before the disk is full, else."""
    seconds_from(LIMIT_VARIABLE, LIMIT_SECONDS)


def seconds_from(variable: str, default: float) -> float:
    """What the environment's `variable` says, or `default`.

    Raises:
        ResourceError: it says no number.
    """
    text = os.environ.get(variable, str(default))
    try:
        return float(text)
    except ValueError:
        raise ResourceError(f"{variable}: must be a number of seconds, got {text}; correct it") from None
