"""The next batch prepared while the device is still busy with this one."""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Made = TypeVar("Made", bound=tuple[Any, ...])

# Batches whose work the GPU may be asked for and not be at yet: more would only fill its memory.
_MAX_BEHIND = 1


@contextlib.contextmanager
def prepared(
    make: Callable[[Item], Made], items: Sequence[Item], device: torch.device, *, ahead: bool | None = None
) -> Iterator[Iterator[Made]]:
    """`make(item)` of every item, in order: a tuple of what `tensors_in` looks into.

    Ahead, a thread makes the first one at once, and the next one while the caller works on this one. Items are made one
    after the other either way, so that what is drawn from generators, which nothing else may draw from meanwhile, is
    the same. The thread is gone when the context ends, however it ends. What `make` raises comes out in its turn.

    Args:
        ahead: by default on a GPU, which works by itself. A CPU would do both at once, and gain nothing.
    """
    if not (device.type == "cuda" if ahead is None else ahead):
        yield map(make, items)
        return
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch", initializer=_setting(device))
    try:
        if device.type == "cuda":
            yield _made_on_a_stream(thread, make, items, device)
        else:
            yield (future.result() for future in _one_ahead(lambda item: thread.submit(make, item), items))
    finally:
        thread.shutdown(cancel_futures=True)


def _setting(device: torch.device) -> Callable[[], None] | None:
    """Sets a GPU in a thread, whose calls would make a context on the first one, which may be another process's."""
    if device.type != "cuda":
        return None
    return functools.partial(torch.cuda.set_device, torch.cuda.current_stream(device).device_index)


def _one_ahead(begin: Callable[[Item], Future[Made]], items: Sequence[Item]) -> Iterator[Future[Made]]:
    """Each item's future, once the next one's is begun; the first one is begun at once."""
    return _follow(begin, items[1:], deque(begin(item) for item in items[:1]))


def _follow(
    begin: Callable[[Item], Future[Made]], items: Sequence[Item], waiting: deque[Future[Made]]
) -> Iterator[Future[Made]]:
    for item in items:
        waiting.append(begin(item))
        yield waiting.popleft()
    yield from waiting


def _made_on_a_stream(
    thread: ThreadPoolExecutor, make: Callable[[Item], Made], items: Sequence[Item], device: torch.device
) -> Iterator[Made]:
    """Made on a stream beside the caller's, before whose work its own, which is little, comes."""
    callers = torch.cuda.current_stream(device)
    beside = stream_beside(device)
    beside.wait_stream(callers)
    asked: deque[torch.cuda.Event] = deque()

    def begin(item: Item) -> Future[tuple[Made, torch.cuda.Event]]:
        # What the caller has asked the GPU for until now: its work on the batches before.
        asked.append(callers.record_event(torch.cuda.Event(blocking=True)))  # type: ignore[no-untyped-call]
        reached = asked.popleft() if len(asked) > _MAX_BEHIND else None
        return thread.submit(make_beside, item, reached)

    def make_beside(item: Item, reached: torch.cuda.Event | None) -> tuple[Made, torch.cuda.Event]:
        if reached is not None:
            reached.synchronize()
        with torch.cuda.stream(beside):
            made = make(item)
            return made, beside.record_event()

    return _arriving(_one_ahead(begin, items), callers)


def _arriving(futures: Iterator[Future[tuple[Made, torch.cuda.Event]]], callers: torch.cuda.Stream) -> Iterator[Made]:
    for future in futures:
        made, is_made = future.result()
        callers.wait_event(is_made)
        for tensor in tensors_in(made):
            if tensor.is_cuda:
                # Its memory is not to be given to the next batch before the caller's stream is done with it.
                tensor.record_stream(callers)
        yield made


@functools.cache
def stream_beside(device: torch.device) -> torch.cuda.Stream:
    """To prepare in. One for all epochs: torch's allocator keeps memory apart for each stream."""
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


def tensors_in(made: object) -> Iterator[Tensor]:
    """All that a tensor, a tuple or list, or a dataclass holds, however deep."""
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, tuple | list):
        for part in made:
            yield from tensors_in(part)
    elif is_dataclass(made):
        yield from tensors_in([*vars(made).values()])
