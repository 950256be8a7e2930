"""One driver for one run in a bucket, where nothing can be locked: a claim that is renewed while its holder lives.

What remains: two drivers that claim at one moment both look who is there after `SETTLE_SECONDS`, and the one whose
claim was written last goes on. Where the other's claim takes longer than that to arrive, both go on until the next
renewal: then the earlier one finds that its claim is gone, and writes nothing more. What two drivers write meanwhile
are records of trials, which their workers' fences keep apart (see `Mirror`). pyarrow has no conditional writes, with
which S3 could rule this out.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from gcc_search.errors import ResultsError, StorageError
from gcc_search.search.origin import is_from_here, origin
from gcc_search.storage.mirror import Mirror
from gcc_search.storage.outage import OutageError

RENEW_SECONDS = 30.0
# A holder that has missed so many renewals is gone, or cut off from the bucket for longer than trials wait.
STALE_SECONDS = 6 * RENEW_SECONDS
SETTLE_SECONDS = 1.0
# `since` is cut to a second, and so is the moment of boot that the kernel counts a process's beginning from.
CLOCK_SECONDS = 3.0


@contextlib.contextmanager
def only_driver_of_bucket(mirror: Mirror, lock: Path) -> Iterator[None]:
    """Holds the claim `lock` while the body runs; a claim of a dead holder is taken over.

    Where it is lost all the same, whatever the body writes from then on raises StorageError.

    Raises:
        ResultsError: another driver holds it, and lives.
    """
    claim = _Claim(mirror, lock)
    claim.take()
    ended = threading.Event()
    keeper = threading.Thread(target=claim.keep, args=(ended,), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        claim.give_back()


class _Claim:
    def __init__(self, mirror: Mirror, lock: Path) -> None:
        self._mirror, self._bucket, self._key = mirror, mirror.bucket, mirror.key(lock)
        self._run = mirror.place(lock.parent)
        self._id = uuid.uuid4().hex
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._holder = {"id": self._id, "pid": os.getpid(), "since": since} | origin()

    def take(self) -> None:
        there = self._bucket.read(self._key)
        if there is not None and _is_claim(there) and self._lives(there):
            raise ResultsError(self._told(there))
        self._bucket.write(self._content(), self._key)
        time.sleep(SETTLE_SECONDS)
        there = self._bucket.read(self._key)
        if there is None or not self._is_ours(there):
            raise ResultsError(self._told(there or b""))

    def keep(self, ended: threading.Event) -> None:
        """Renews the claim until it ends, is another's, or has been refused until it may be another's."""
        renewed = time.monotonic()
        while not ended.wait(RENEW_SECONDS):
            try:
                self._mirror.barred = self._renew()
                renewed = time.monotonic()
            except OutageError:
                # Asked again at the next renewal: nothing else arrives there meanwhile.
                continue
            except StorageError as refusal:
                # What is refused once may be allowed again, as by a proxy that was overloaded.
                if (silent := time.monotonic() - renewed) > STALE_SECONDS:
                    told = f"{self._run}: claim must be renewed, got none for {silent:.0f} s"
                    self._mirror.barred = f"{told}, for {refusal}"
            if self._mirror.barred is not None:
                return

    def _renew(self) -> str | None:
        """Why it cannot be renewed: it is another's."""
        there = self._bucket.read_once(self._key)
        if there is not None and _is_claim(there) and not self._is_ours(there):
            return self._told(there)
        self._bucket.write_once(self._content(), self._key)
        return None

    def give_back(self) -> None:
        # Where the bucket does not answer, the claim grows stale by itself.
        with contextlib.suppress(OutageError, StorageError):
            there = self._bucket.read_once(self._key)
            if there is not None and self._is_ours(there):
                self._bucket.remove(self._key)

    def _lives(self, there: bytes) -> bool:
        holder = _parsed(there)
        if is_from_here(holder) and isinstance(holder.get("pid"), int):
            began = _beginning_of(holder["pid"])
            if began is None or holder["pid"] == os.getpid():
                return False
            # One that began after the claim has its number from a holder that is gone; unless the claim says otherwise
            # by being renewed.
            if began <= _moment(holder.get("since")) + CLOCK_SECONDS:
                return True
        # Clocks of machines differ: what is written now says what time it is there.
        probe = f"{self._key}.{self._id}"
        self._bucket.write(b"", probe)
        now, then = self._bucket.look(probe), self._bucket.look(self._key)
        self._bucket.remove(probe)
        return now is not None and then is not None and now.changed - then.changed < STALE_SECONDS * 1e9

    def _is_ours(self, there: bytes) -> bool:
        return _parsed(there).get("id") == self._id

    def _content(self) -> bytes:
        return json.dumps(self._holder).encode()

    def _told(self, there: bytes) -> str:
        holder = _parsed(there)
        named = f"pid {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
        return f"{self._run}: must have one search at a time, got another: {named}; wait for it or stop it"


def _is_claim(content: bytes) -> bool:
    """A run that was copied from a disk brings the lock's file from there, which claims nothing here."""
    return "id" in _parsed(content)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _beginning_of(pid: int) -> float | None:
    """When the process began, in seconds since 1970; None where there is none."""
    try:
        return psutil.Process(pid).create_time()
    except (psutil.NoSuchProcess, ValueError):
        return None


def _moment(text: object) -> float:
    """Seconds since 1970; minus infinity for what is no time."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return float("-inf")
