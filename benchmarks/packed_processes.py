"""Trials in processes of their own on one device, as Ray runs them: all at the same time, from a barrier on."""

from __future__ import annotations

import multiprocessing
import queue
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

import torch

from benchmarks.trial_at_hand import Case, TrialAtHand, timed
from gcc_search.training.memory import peak_bytes


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What one process had of a round with `count` at the same time.

    Args:
        peak_bytes: the most that its allocator held of the device; on the CPU, the process's resident memory.
        device_bytes: of the device in use, by all processes and their contexts; 0 on the CPU.
    """

    count: int
    images_per_second: float
    peak_bytes: int
    device_bytes: int


def measure_processes(case: Case, device: str, *, threads: int) -> list[Rate]:
    """A rate for each process of each round. They stay from round to round, and wait where they have no part.

    Args:
        threads: of the machine, for all of them.

    Raises:
        RuntimeError: a process failed; its reason.
    """
    context = multiprocessing.get_context("spawn")
    most = max(case.counts)
    barrier, told = context.Barrier(most), context.Queue()
    processes = [
        context.Process(target=_take_part, args=(case, device, threads, number, barrier, told))
        for number in range(most)
    ]
    for process in processes:
        process.start()
    try:
        answers = [told.get(timeout=case.patience_seconds) for _ in processes]
    except queue.Empty:
        raise RuntimeError(f"{most} processes must answer within {case.patience_seconds:g} s, got none") from None
    finally:
        for process in processes:
            # They have nothing left to do, or hang.
            process.kill()
            process.join()
    # Those that waited for one that failed know nothing else.
    if failures := sorted((answer for answer in answers if isinstance(answer, str)), key=len, reverse=True):
        raise RuntimeError(failures[0])
    return [rate for answer in answers for rate in answer]


def _take_part(case: Case, device: str, threads: int, number: int, barrier: Barrier, told: Queue[object]) -> None:
    try:
        told.put(_rounds(case, torch.device(device), threads, number, barrier))
    except BrokenBarrierError:
        told.put("")
    except Exception as error:
        barrier.abort()
        told.put(f"{type(error).__name__}: {error}")


def _rounds(case: Case, device: torch.device, threads: int, number: int, barrier: Barrier) -> list[Rate]:
    torch.set_num_threads(max(1, threads // max(case.counts)))
    trial = TrialAtHand(case, device, number)
    trial.warm_up()
    rates = []
    for count in case.counts:
        torch.set_num_threads(max(1, threads // count))
        barrier.wait(case.patience_seconds)
        if number < count:
            per_second = timed(case, trial.train)
            peak, used = memory(device)
            rates.append(Rate(count=count, images_per_second=per_second, peak_bytes=peak, device_bytes=used))
    # Its context counts until all have looked.
    barrier.wait(case.patience_seconds)
    return rates


def memory(device: torch.device) -> tuple[int, int]:
    """`Rate.peak_bytes` and `Rate.device_bytes`."""
    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else (0, 0)
    return peak_bytes(device), total - free
