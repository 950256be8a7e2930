"""Processes that train one network together: which is which, and how the first leads the others.

They are on one machine and talk over its loopback, where no other machine can reach them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

LOOPBACK = "127.0.0.1"
# Until all have joined: a process that starts imports torch from what may be a slow shared disk.
START_SECONDS = 300.0
# Of waiting for each other within an epoch. A process that dies is noticed at once; this is for one that hangs.
STEP_SECONDS = 600.0
# Of waiting for rank 0, which scores the network meanwhile, or waits for a full disk. Its death ends the wait at once.
IDLE_SECONDS = 86_400.0
OVER = 0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of every batch is this process's: the one at `rank` of `size` equal ones."""

    rank: int = 0
    size: int = 1

    def divides(self, count: int) -> bool:
        """Whether a batch of so many images is cut. Fewer than processes are not: each takes them all."""
        return 1 < self.size <= count

    def rows(self, count: int) -> slice:
        """This process's images of a batch of `count`."""
        if not self.divides(count):
            return slice(0, count)
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)


ALONE = Share()


def _know_nothing() -> Exception | None:
    return None


@dataclass(kw_only=True)
class Crew:
    """The processes that train one network, as one of them sees them.

    Args:
        find_lost: why another one has failed, None where none has; asked where an exchange with them broke.
    """

    share: Share
    store: Store = field(repr=False)
    find_lost: Callable[[], Exception | None] = _know_nothing
    _turn: int = field(default=0, init=False)

    def meet(self) -> None:
        """Rank 0 waits for all others to have come this far.

        Raises:
            Exception: what `find_lost` finds. RuntimeError: it took them longer than `START_SECONDS`.
        """
        if self.share.rank > 0:
            self.store.set(f"here {self.share.rank}", "")
            return
        deadline = time.monotonic() + START_SECONDS
        keys = [f"here {rank}" for rank in range(1, self.share.size)]
        while not self.store.check(keys):
            self.raise_if_lost()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the processes that train one network must start in {START_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)

    def raise_if_lost(self, *, within: float = 0.0) -> None:
        """Raises what another process failed by, where one has, or does in the next `within` seconds."""
        deadline = time.monotonic() + within
        while (lost := self.find_lost()) is None:
            if time.monotonic() >= deadline:
                return
            time.sleep(_POLL_SECONDS)
        raise lost

    def tell(self, epoch: int) -> None:
        """Rank 0's side: the others train `epoch` now, or none any more where it is `OVER`."""
        self.store.set(f"turn {self._turn}", str(epoch))
        self._turn += 1

    def hear(self) -> int:
        """The others' side: waits for what rank 0 tells next.

        Raises:
            RuntimeError: rank 0 is gone.
        """
        key = f"turn {self._turn}"
        self.store.wait([key], timedelta(seconds=IDLE_SECONDS))
        self._turn += 1
        return int(self.store.get(key))


def listen() -> tuple[socket.socket, int]:
    """A socket on the loopback for rank 0 to be found at, and its port."""
    listener = socket.socket()
    listener.bind((LOOPBACK, 0))
    listener.listen()
    return listener, int(listener.getsockname()[1])


@contextlib.contextmanager
def joined(
    share: Share,
    port: int,
    *,
    device: torch.device,
    listener: socket.socket | None = None,
    find_lost: Callable[[], Exception | None] = _know_nothing,
) -> Iterator[Crew]:
    """Within, this process is one of a crew: gloo on the CPU, NCCL on GPUs. Waits until all have come.

    Args:
        port: where rank 0 listens. listener: rank 0's own, which is used up. find_lost: see `Crew`.

    Raises:
        RuntimeError: they have not all come in `START_SECONDS`. Exception: what `find_lost` finds before.
    """
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, _loopback_name())
    if distributed.is_initialized():
        # Left behind where an earlier crew broke.
        distributed.destroy_process_group()
    store = TCPStore(
        LOOPBACK,
        port,
        is_master=listener is not None,
        timeout=timedelta(seconds=START_SECONDS),
        wait_for_workers=False,
        master_listen_fd=None if listener is None else listener.detach(),
    )
    crew = Crew(share=share, store=PrefixStore("crew", store), find_lost=find_lost)
    crew.meet()
    # NCCL goes by it, where whoever started this process has set one for all of its children.
    os.environ["LOCAL_RANK"] = str(share.rank)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("torch", store),
        rank=share.rank,
        world_size=share.size,
        timeout=timedelta(seconds=STEP_SECONDS),
    )
    has_failed = False
    try:
        yield crew
    except Exception:
        has_failed = True
        raise
    finally:
        # After a failure NCCL would wait for its peers once more, and they may be gone.
        if device.type == "cpu" or not has_failed:
            distributed.destroy_process_group()


def _loopback_name() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
