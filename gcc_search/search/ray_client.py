"""A cluster reached from elsewhere, through Ray Client. What may be wrong is looked at before: Ray asks for minutes."""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import AuthenticationError, GetTimeoutError

from gcc_search import __version__
from gcc_search.errors import ClusterError
from gcc_search.search.addresses import host_and_port
from gcc_search.search.head_search import HEAD_RESOURCE
from gcc_search.search.joining import check_port, refused, unknown_token
from gcc_search.search.ray_signals import ray_leaves_signals
from gcc_search.search.submission import other_version

ANSWER_SECONDS = 10.0
# For a head that has started no worker yet.
WORKER_SECONDS = 60.0
# The head forks a process for each client while gRPC's threads run, which now and then ends that process at once.
CONNECT_TRIES = 3
_NO_SERVER = ("Starting Ray client server failed", "Proxy failed to Connect to backend")
ON_HEAD = {"num_cpus": 0, "resources": {HEAD_RESOURCE: 0.001}}


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Within, Ray's functions and actors run on the cluster whose Ray Client server is at `address`.

    Raises:
        ResourceError: none answers there, or it does not know our token, or it is of another version of Ray or Python.
        ClusterError: it has no gcc-search, or another version; or Ray Client is not installed here.
    """
    found = host_and_port(address)
    check_port(address, found)
    _check_answer(address, found)
    with threads_unsaid():
        _connect(address)
        try:
            _check_version(address)
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def threads_unsaid() -> Iterator[None]:
    """Within, threads of Ray and gRPC end without a traceback: a connection that breaks is told by us, in a line."""
    before = threading.excepthook

    def say(args: threading.ExceptHookArgs) -> None:
        frames = (frame for frame, _ in traceback.walk_tb(args.exc_traceback))
        if not any(str(frame.f_globals.get("__name__")).split(".")[0] in ("grpc", "ray") for frame in frames):
            before(args)

    threading.excepthook = say
    try:
        yield
    finally:
        threading.excepthook = before


def _check_answer(address: str, found: str) -> None:
    try:
        import grpc
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc
    except ImportError:
        told = "must have Ray Client for ray://, got none; pip install 'gcc-search[cluster]'"
        raise ClusterError(f"--address: {told}") from None
    # Both are generated, and say nothing of what they hold.
    words: Any = ray_client_pb2
    calls: Any = ray_client_pb2_grpc
    channel = init_grpc_channel(found)
    try:
        ping = words.ClusterInfoRequest(type=words.ClusterInfoType.PING)
        calls.RayletDriverStub(channel).ClusterInfo(ping, timeout=ANSWER_SECONDS)
    except AuthenticationError:
        raise unknown_token("got none") from None
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise unknown_token("got one with another token") from None
        told = "no Ray Client server answers there; the head's listens on port 10001, if it was not given another"
        raise refused(address, told) from None
    finally:
        channel.close()


def _connect(address: str) -> None:
    # It speaks of lost connections whatever the level is; so do we.
    logging.getLogger("ray.util.client.logsclient").disabled = True
    for left in reversed(range(CONNECT_TRIES)):
        try:
            with warnings.catch_warnings(), ray_leaves_signals():
                warnings.simplefilter("ignore")
                ray.init(address, logging_level=logging.CRITICAL, log_to_driver=False)
        except Exception as error:
            if left and any(words in str(error) for words in _NO_SERVER):
                continue
            raise refused(address, _told(error)) from error
        return


def _told(error: Exception) -> str:
    """What Ray says in a paragraph, or in another machine's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    versions = [line for line in lines if line.startswith(("Ray:", "Python:"))]
    if lines[0].startswith("Version mismatch") and len(versions) == 4:
        return f"{', '.join(versions[:2])}, and here {', '.join(versions[2:])}; install the same on both"
    return lines[-1]


def _check_version(address: str) -> None:
    # Inside, so that its source is sent, and not its name: what the cluster has installed is the question.
    def find_version() -> str:
        try:
            import gcc_search
        except ImportError:
            return "none"
        return gcc_search.__version__

    try:
        there = ray.get(ray.remote(find_version).options(**ON_HEAD).remote(), timeout=WORKER_SECONDS)
    except GetTimeoutError:
        raise refused(address, f"its head starts no worker within {WORKER_SECONDS:.0f} s") from None
    if there != __version__:
        raise other_version(__version__, "as here", there)
