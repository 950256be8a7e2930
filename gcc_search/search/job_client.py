"""Ray's job server, with every failure as one line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from ray.exceptions import AuthenticationError

from gcc_search.errors import ClusterError, UnreachableError
from gcc_search.search.addresses import DASHBOARD

START_SECONDS = 60.0
# What has a meaning of its own in a URL.
_IN_URLS = "/?#% \\"

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class JobClient:
    """The jobs of the cluster whose dashboard is at `address`.

    Raises:
        UnreachableError: nothing answers there.
        ClusterError: what answers is no Ray, or does not know our token; or `gcc-search[cluster]` is not installed.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = self._asked(_connect, address)

    def submit(self, **job: Any) -> str:
        """Its id. A cluster that has just been started is given a minute."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                return str(self._asked(self._client.submit_job, **job))
            except ClusterError as error:
                if "try again later" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(1)

    def info(self, job: str) -> Any:
        """Ray's JobDetails.

        Raises:
            ClusterError: there is no such job.
        """
        # Ray makes a URL of it: without one, or with a part of another, it would be another question.
        if not job.strip(".") or any(char in _IN_URLS or not char.isprintable() for char in job):
            raise self._told(LookupError("does not exist"))
        return self._asked(self._client.get_job_info, job)

    def jobs(self) -> list[Any]:
        return list(self._asked(self._client.list_jobs))

    def logs(self, job: str) -> str:
        return str(self._asked(self._client.get_job_logs, job))

    def stop(self, job: str) -> None:
        self._asked(self._client.stop_job, job)

    def follow(self, job: str) -> Iterator[str]:
        """Each line of the job's log from its beginning, as it comes, until the job ends."""
        loop = asyncio.new_event_loop()
        chunks = self._client.tail_job_logs(job)
        rest = ""
        try:
            while True:
                try:
                    rest += self._asked(loop.run_until_complete, anext(chunks))
                except StopAsyncIteration:
                    break
                *lines, rest = rest.split("\n")
                yield from lines
            if rest:
                yield rest
        finally:
            loop.run_until_complete(chunks.aclose())
            # A turn more, in which its sockets close.
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    def _asked(self, ask: Callable[Given, Answer], *given: Given.args, **named: Given.kwargs) -> Answer:
        try:
            return ask(*given, **named)
        except AuthenticationError:
            told = "got one with another token; copy the head's ~/.ray/auth_token to this machine"
            raise ClusterError(f"--address: must be a Ray cluster that knows this machine's token, {told}") from None
        except OSError as error:
            reason = f"{self._address} does not answer ({type(error).__name__})"
            raise UnreachableError(
                f"--address: must be a Ray dashboard, got: {reason}; is it forwarded to this machine?"
            ) from None
        except (RuntimeError, ValueError) as error:
            raise self._told(error) from None

    def _told(self, error: Exception) -> ClusterError:
        words = str(error)
        if "does not exist" in words:
            return ClusterError("job: must be one of the cluster's, got one it does not know; see gcc-search list")
        if "ray[default]" in words:
            return ClusterError("--address: must have Ray's job client, got none; pip install 'gcc-search[cluster]'")
        reason = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), type(error).__name__)
        if "connect" in reason.lower():
            return UnreachableError(f"--address: must be a Ray dashboard, got: {self._address} does not answer")
        return ClusterError(f"--address: must be a Ray dashboard like {DASHBOARD}, got {self._address}: {reason}")


def _connect(address: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise RuntimeError("ray[default] is not installed") from None
    # They tell of each package that they upload, and of each connection that ends.
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
    return JobSubmissionClient(address)
