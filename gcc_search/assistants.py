"""The other processes of a crew: started by the one that runs a trial, and ended with it, however it ends.

    python -m gcc_search.assistants      one of them; what it is to do comes as a line of JSON

Its standard input stays open for as long as rank 0 lives: the system closes it when that is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import distributed

from gcc_search.failures import failure_kind
from gcc_search.settings import Settings, TrialSettings
from gcc_search.training.crew import Crew, Share, joined, listen
from gcc_search.trial import assist

_POLL_SECONDS = 0.2
# What an assistant exits with, by the kind of its failure, and what rank 0 then raises.
_EXITS = {"memory": 10, "crash": 11, "error": 12}
_RAISED: dict[int, type[Exception]] = {10: MemoryError, 11: ChildProcessError, 12: RuntimeError}


class _Orders(Settings):
    settings: TrialSettings
    rank: int
    size: int
    port: int
    device: str
    threads: int


@contextlib.contextmanager
def crew_of(size: int, settings: TrialSettings, device: torch.device) -> Iterator[Crew | None]:
    """Within, `size` processes are ready to train one network, this one at rank 0; None where it is alone.

    On GPUs, rank r has the r-th that this process may use. They share the threads that this one has.

    Raises:
        ChildProcessError: another one has ended before all were there. MemoryError: it had too little memory.
    """
    if size == 1:
        yield None
        return
    listener, port = listen()
    processes: list[subprocess.Popen[bytes]] = []
    with listener, _ended_with_this(processes), _share_of_threads(size) as threads:
        for rank in range(1, size):
            orders = _Orders(
                settings=settings,
                rank=rank,
                size=size,
                port=port,
                device=f"cuda:{rank}" if device.type == "cuda" else device.type,
                threads=threads,
            )
            processes.append(_start(orders))
        watch = _Watch(processes)
        with (
            joined(Share(size=size), port, device=device, listener=listener, find_lost=watch.find_lost) as crew,
            watch.ends_waits(device),
        ):
            yield crew


@contextlib.contextmanager
def _share_of_threads(size: int) -> Iterator[int]:
    """Within, this process computes with one part of `size` of its threads, which it tells."""
    all_of_them = torch.get_num_threads()
    share = max(1, all_of_them // size)
    # More than there are cores is slower by far: each batch waits for the slowest.
    torch.set_num_threads(share)
    try:
        yield share
    finally:
        torch.set_num_threads(all_of_them)


def _start(orders: _Orders) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gcc_search.assistants"],
        stdin=subprocess.PIPE,
        bufsize=0,
        # Standard output is for results; gloo and NCCL print.
        stdout=2,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        # Ctrl-C is for rank 0, which records it and lets the others go.
        process_group=0,
    )
    assert process.stdin is not None, "asked for above"
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(orders.model_dump_json().encode() + b"\n")
    return process


@contextlib.contextmanager
def _ended_with_this(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    try:
        yield
    finally:
        # Either they have heard that it is over, or they may wait for ever; none of them writes anything.
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
            assert process.stdin is not None, "asked for at its start"
            process.stdin.close()


class _Watch:
    """Knows which assistants have failed."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    def find_lost(self) -> Exception | None:
        """Why the first of them to fail has; one that was killed comes first, as others fail by its absence."""
        codes = {rank: process.poll() for rank, process in enumerate(self._processes, start=1)}
        failed = {rank: code for rank, code in codes.items() if code}
        if not failed:
            return None
        rank = min(failed, key=failed.__getitem__)
        code = failed[rank]
        how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}; its words are in this one's log"
        return _RAISED.get(code, ChildProcessError)(f"process {rank} of those that train this network {how}")

    @contextlib.contextmanager
    def ends_waits(self, device: torch.device) -> Iterator[None]:
        """Within, this process does not wait on the GPU for one that is gone. (On the CPU, gloo sees to that.)"""
        if device.type != "cuda":
            yield
            return
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(_POLL_SECONDS):
                if self.find_lost() is not None:
                    group = distributed.group.WORLD
                    assert group is not None, "this process has joined"
                    group.abort()
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def _end_with_rank_0() -> None:
    """Ends this process, whatever it waits for, when the one that started it is gone."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    """One assistant, from its orders to its exit status."""
    orders = _Orders.model_validate_json(sys.stdin.buffer.readline())
    _end_with_rank_0()
    torch.set_num_threads(orders.threads)
    device = torch.device(orders.device)
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with joined(Share(rank=orders.rank, size=orders.size), orders.port, device=device) as crew:
            assist(orders.settings, crew, device)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return _EXITS[failure_kind(error)]
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # The thread above holds standard input, which Python would close in an orderly end.
    os._exit(status)
