"""A bucket that does not answer is asked again; one that refuses is not, or not for long.

Two bounds hold together. One request fails after `CONNECT_SECONDS` without a connection, or `SILENT_SECONDS` without a
byte; the SDK itself tries once only, so that the waits are ours. And whatever failed is tried again, with waits that
double, for $GCC_SEARCH_STORAGE_SECONDS: an operation ends at most one try after that. Credentials that a bucket has
taken something by are tried again for `REFUSED_SECONDS`: a proxy or an identity service may fail for a moment.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from gcc_search.errors import StorageError
from gcc_search.patience import Contact, seconds_from

Result = TypeVar("Result")

LIMIT_VARIABLE = "GCC_SEARCH_STORAGE_SECONDS"
LIMIT_SECONDS = 600.0
# A command that cannot even begin says so sooner.
OPENING_SECONDS = 20.0
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 30.0
REFUSED_SECONDS = 20.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0
# Below this, nobody needs to hear of it.
TOLD_AFTER_SECONDS = 2.0

_AWS = re.compile(r"AWS Error (?P<code>[A-Z_]+)(?: \(HTTP status (?P<status>\d+)\))? during (?P<operation>\w+)")
# Of a code that pyarrow has no name for. An answer to HEAD has no body, and so no code.
_UNNAMED = re.compile(r"Unable to parse ExceptionName: (?P<code>\w+)")
_GOOGLE = re.compile(r"google::cloud::Status\((?P<code>[A-Z_]+)")
_CREDENTIALS = {
    "ACCESS_DENIED",
    "EXPIRED_TOKEN",
    "INCOMPLETE_SIGNATURE",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN",
    "OPT_IN_REQUIRED",
    "PERMISSION_DENIED",
    "REQUEST_EXPIRED",
    "REQUEST_TIME_TOO_SKEWED",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNAUTHENTICATED",
    "UNRECOGNIZED_CLIENT",
}
# As S3 spells them: pyarrow 26 has no names for these.
_TOKENS = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
# Of requests that are refused only for now: too slow, in conflict with another on the same object, too many.
_PASSING = (408, 409, 429)
_MISSING = {"NO_SUCH_BUCKET", "NOT_FOUND"}
_VARIABLES = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "gs": "GOOGLE_APPLICATION_CREDENTIALS"}


class OutageError(Exception):
    """One try failed in a way that may pass."""


class RefusedError(StorageError):
    """The credentials were refused, which may pass where they were good before."""


class Tries:
    """Tries what may fail, for one bucket; `where` is its URL, for messages.

    `were_good`: whether the credentials have been good enough to write something, here or in the process that asked
    this one to work there.
    """

    def __init__(self, where: str, *, were_good: bool = False) -> None:
        self._where = where
        self.contact = Contact()
        self.were_good = were_good
        self._gave_up = False

    def __call__(self, action: Callable[[], Result], *, limit: float | None = None) -> Result:
        """What `action` returns, in the end.

        Raises:
            StorageError: it was refused, or has failed for `limit` seconds ($GCC_SEARCH_STORAGE_SECONDS where None).
            FileNotFoundError: there is no such object.
        """
        # Who has waited that long once must not wait again to say so.
        most = seconds_from(LIMIT_VARIABLE, LIMIT_SECONDS)
        allowed = most if limit is None else min(limit, most)
        limit = 0.0 if self._gave_up else allowed
        began, wait, told = time.monotonic(), FIRST_WAIT_SECONDS, False
        refused_since: float | None = None
        while True:
            try:
                found = self.once(action)
            except (OutageError, RefusedError) as failure:
                now = time.monotonic()
                waited = now - began
                if isinstance(failure, RefusedError):
                    refused_since = now if refused_since is None else refused_since
                    # Refusals in a row; what came before them was an outage.
                    patience = min(limit, refused_since - began + (REFUSED_SECONDS if self.were_good else 0.0))
                else:
                    refused_since, patience = None, limit
                if waited >= patience:
                    raise self._given_up(failure, waited) from None
                if waited >= TOLD_AFTER_SECONDS and not told:
                    self.contact.tell(f"paused, {self._where}: {failure}; tries again for {patience:.0f} s")
                    told = True
                # Many workers lose a bucket at one moment, and are not to come back at one moment.
                time.sleep(min(wait * random.SystemRandom().uniform(0.5, 1.0), max(patience - waited, 0.0)))
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            else:
                self._gave_up = False
                if told:
                    self.contact.tell(f"goes on: {self._where} answers again")
                return found

    def _given_up(self, failure: OutageError | RefusedError, waited: float) -> StorageError:
        if isinstance(failure, RefusedError):
            # Of a worker's death only the error's name and words arrive.
            return StorageError(str(failure))
        self._gave_up = True
        return StorageError(
            f"{self._where}: must answer, got: {failure} (tried for {waited:.0f} s); check the network and the endpoint"
        )

    def once(self, action: Callable[[], Result]) -> Result:
        """What `action` returns.

        Raises:
            OutageError: it failed, and may not fail again. RefusedError: for want of credentials.
            StorageError, FileNotFoundError: as above.
        """
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            # Of pyarrow's errors only the text tells them apart.
            text = str(error)
            # Google's listing of an empty place has no errno (pyarrow 26).
            if text.startswith("No such file or directory"):
                raise FileNotFoundError(text) from None
            if (refusal := self._refusal(text)) is not None:
                raise refusal from None
            raise OutageError(_shortly(text)) from None

    def missing(self, code: str) -> StorageError:
        """That there is no such bucket, in the server's words."""
        return StorageError(f"{self._where}: bucket must exist, got {code}; create it or correct its name")

    def _refusal(self, text: str) -> StorageError | None:
        match = _AWS.search(text) or _GOOGLE.search(text)
        if match is None:
            return None
        code = match["code"]
        status = int(match.groupdict().get("status") or 0)
        if (unnamed := _UNNAMED.search(text)) is not None:
            code = unnamed["code"]
        if code in _CREDENTIALS | _TOKENS or status in (401, 403):
            what = f"{code} in {match['operation']}" if "operation" in match.groupdict() else code
            variables = "AWS_SESSION_TOKEN" if code in _TOKENS else _VARIABLES[self._where.partition(":")[0]]
            rule = "credentials must allow to list, read and write"
            return RefusedError(f"{self._where}: {rule}, got {what}; check {variables}")
        if code in _MISSING:
            return self.missing(code)
        if 300 <= status < 500 and status not in _PASSING:
            # A token that has expired is a 400 as well, and of some requests nothing says which.
            return StorageError(
                f"{self._where}: must take the request, got: {_shortly(text)}; check region, endpoint and credentials"
            )
        return None


def _shortly(text: str) -> str:
    """What a person wants to know of a line of pyarrow's."""
    match = _AWS.search(text)
    if match is None:
        return " ".join(text.split())[:200]
    details = text[match.end() :].removeprefix(" operation: ").rpartition("Details: ")[2]
    status = f" {match['status']}" if match["status"] else ""
    return f"{match['code']}{status} in {match['operation']} ({' '.join(details.split())[:200].rstrip('.')})"
