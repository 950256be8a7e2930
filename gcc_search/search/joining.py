"""Joins a Ray cluster that runs already. Whether it answers is looked at before: Ray itself asks for ten minutes."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator

import ray
from ray._private import services

from gcc_search.errors import ResourceError
from gcc_search.search.addresses import FORMS, to_join
from gcc_search.search.ray_signals import ray_leaves_signals

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 20.0


@contextlib.contextmanager
def joined_ray(address: str | None) -> Iterator[None]:
    """Within, what runs on Ray runs in the cluster at `address`; None joins none.

    Args:
        address: `auto` (the cluster that this machine is part of) or HOST:PORT of the head. Through Ray Client (ray://)
            it is `ray_client.connected`, and a search on the head comes here.

    Raises:
        ResourceError: no cluster answers there, or it does not know our token, or it is of another version.
    """
    if address is None:
        yield
        return
    found = _find(to_join(address))
    check_port(address, found)
    _check_answer(address, found)
    try:
        with ray_leaves_signals():
            ray.init(address=found, logging_level=logging.CRITICAL, log_to_driver=False, configure_logging=True)
    except Exception as error:
        # Ray raises whatever comes up, and its reasons are paragraphs.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise refused(address, f"{reason}; is this machine part of it (ray start --address={found})?") from error
    try:
        yield
    finally:
        ray.shutdown()


def _find(address: str) -> str:
    """HOST:PORT of the cluster that is meant."""
    try:
        return str(services.get_ray_address_from_environment("auto", None)) if address == "auto" else address
    except ConnectionError:
        raise refused(address, "none that runs on this machine; start one with ray up or ray start --head") from None


def check_port(address: str, found: str) -> None:
    """Whether something listens at `found`, HOST:PORT.

    Raises:
        ResourceError: nothing does, or it is no HOST:PORT.
    """
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit():
        raise ResourceError(f"--address: must be {FORMS}, got {address}; ray start --head prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        raise refused(address, f"{found}: {reason}; is its head up, and its port open to this machine?") from None


def _check_answer(address: str, found: str) -> None:
    """In a process of its own: what Ray says of a failure goes to the terminal from below Python."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", found]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
        code, words = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        code, words = 1, (error.stderr or b"").decode(errors="replace")
    if code == 0:
        return
    if "AuthToken" in words or "Unauthenticated" in words:
        raise unknown_token("got one with another token")
    version = next((line for line in words.splitlines() if "ersion" in line and "Ray" in line), None)
    reason = version or f"{found}: no answer within {ANSWER_SECONDS:.0f} s"
    raise refused(address, f"{reason.strip()}; is it a Ray head of version {ray.__version__}?")


def unknown_token(got: str) -> ResourceError:
    told = f"{got}; copy the head's ~/.ray/auth_token to this machine"
    return ResourceError(f"--address: must be a Ray cluster that knows this machine's token, {told}")


def refused(address: str, reason: str) -> ResourceError:
    return ResourceError(f"--address: must be a Ray cluster that answers, got {address}: {reason}")
