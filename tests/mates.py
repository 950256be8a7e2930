"""The other ranks of a crew, in processes of their own that do one step after another; the test itself is rank 0."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch

from gcc_search.training.crew import Crew, Share, joined, listen

CPU = torch.device("cpu")


class Mate:
    """One process. Starting it takes as long as importing torch."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *request: Any) -> None:
        self._pipe.send(request)

    def answer(self) -> Any:
        """What the function returned; its exception, where it raised. EOFError where the process is gone."""
        assert self._pipe.poll(60), "a mate hangs"
        return self._pipe.recv()

    def end(self) -> None:
        self.process.kill()
        self.process.join()


class Mates:
    """As many as are asked for, kept from one crew to the next."""

    def __init__(self) -> None:
        self._all: list[Mate] = []

    @contextlib.contextmanager
    def crew(self, size: int, work: Callable[..., Any], *given: Any) -> Iterator[tuple[Crew, list[Mate]]]:
        """Rank 0's view of a crew whose others run `work(crew, *given)`, and who they are."""
        self._all = [mate for mate in self._all if mate.process.is_alive()]
        while len(self._all) < size - 1:
            self._all.append(Mate())
        mates = self._all[: size - 1]
        listener, port = listen()
        for rank, mate in enumerate(mates, start=1):
            mate.ask(Share(rank=rank, size=size), port, work, given)
        with joined(Share(rank=0, size=size), port, device=CPU, listener=listener) as crew:
            yield crew, mates

    def run(self, size: int, work: Callable[..., Any], *given: Any) -> list[Any]:
        """What `work(crew, *given)` gives on each rank."""
        with self.crew(size, work, *given) as (crew, mates):
            ours = work(crew, *given)
        return [ours, *(mate.answer() for mate in mates)]

    def end(self) -> None:
        for mate in self._all:
            mate.end()


def _serve(pipe: Connection) -> None:
    torch.set_num_threads(1)
    while True:
        share, port, work, given = pipe.recv()
        try:
            with joined(share, port, device=CPU) as crew:
                answer = work(crew, *given)
        except Exception as error:
            answer = error
        pipe.send(answer)
