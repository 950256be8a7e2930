"""How much of a GPU one trial takes: seen while each network trains for a moment, in a process of its own.

Torch's allocator knows of tensors and workspaces alone. A process's CUDA context and the kernels that it has loaded
come on top, and to ask a GPU for its free memory makes a context first: what a process takes in all, another one sees.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

import torch

from gcc_search.errors import GccSearchError, ResourceError
from gcc_search.failures import failure_kind, told
from gcc_search.settings import TrialSettings
from gcc_search.training.datasets import DataSet
from gcc_search.training.evaluation import measure
from gcc_search.training.image_set import ImageSet
from gcc_search.training.learner import Learner
from gcc_search.training.loop import train_epoch
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.passes import Passes
from gcc_search.training.terms import loss_terms
from gcc_search.trial import evaluation_of, make_optimizer, open_dataset, plan_of

Answer = TypeVar("Answer")
NUMBER_INSTEAD = "give a number to resources.trials_per_gpu"
# The second epoch meets the allocator as evaluation has left it, and the last one's with insertion as a trial's does.
EPOCHS, FULL_STEPS = 3, 2
# Freed memory that is not worth a wait; how long nothing more must be freed, and how long that may take.
NOISE_BYTES, QUIET_SECONDS, RELEASE_SECONDS = 16 << 20, 3.0, 30.0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A kind of GPU."""

    name: str
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The most memory that one trial's process takes of a GPU, context and all."""

    network: str
    image_size: int
    batch_size: int
    peak_bytes: int

    @property
    def of(self) -> str:
        """Of what, in words."""
        return _told(self.network, self.image_size, self.batch_size)


def in_words(settings: TrialSettings) -> str:
    """What decides how much memory a trial takes."""
    return _told(settings.network, settings.recipe.image_size, settings.recipe.batch_size)


def _told(network: str, image_size: int, batch_size: int) -> str:
    return f"{network} at {image_size} px, batch {batch_size}"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was measured on one GPU. `usable_bytes` were free before any trial."""

    gpu: Gpu
    usable_bytes: int
    footprints: tuple[Footprint, ...]

    @property
    def largest(self) -> Footprint:
        return max(self.footprints, key=lambda footprint: footprint.peak_bytes)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a process that has trained holds: free memory of the GPU, its allocator's memory now and at most."""

    free_bytes: int
    reserved_bytes: int
    peak_reserved_bytes: int

    def peak_bytes(self, free_before: int) -> int:
        """The most that the process has taken of a GPU where `free_before` were free: all that its allocator held, and
        what it holds beside that. Others that take or free memory meanwhile are taken for it, the latter up to none."""
        beside = free_before - self.free_bytes - self.reserved_bytes
        return self.peak_reserved_bytes + max(0, beside)


class MemoryMeter(Protocol):
    """What the GPUs of this machine, those that this process may use, say of their memory."""

    def gpus(self) -> list[Gpu]: ...

    def device(self, index: int) -> torch.device: ...

    def free(self, device: torch.device) -> int:
        """Bytes that no process holds. The one that asks holds a context from then on."""

    def reserved(self, device: torch.device) -> tuple[int, int]:
        """Bytes that this process's allocator holds of the device, and the most that it ever held."""


class CudaMeter:
    """`MemoryMeter` by torch.cuda."""

    def gpus(self) -> list[Gpu]:
        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return [Gpu(name=item.name, total_bytes=item.total_memory) for item in found]

    def device(self, index: int) -> torch.device:
        return torch.device("cuda", index)

    def free(self, device: torch.device) -> int:
        torch.cuda.synchronize(device)
        free, _ = torch.cuda.mem_get_info(device)
        return free

    def reserved(self, device: torch.device) -> tuple[int, int]:
        return torch.cuda.memory_reserved(device), torch.cuda.max_memory_reserved(device)


def find_gpus(meter: MemoryMeter) -> list[Gpu]:
    """At least one.

    Raises:
        ResourceError: there is none that torch can use.
    """
    found = meter.gpus()
    if not found:
        raise ResourceError("GPU: must be one that torch can use, got none; nvidia-smi shows what the driver knows of")
    return found


def measure_networks(networks: Sequence[TrialSettings], index: int, meter: MemoryMeter) -> Reading:
    """The footprint of each network on GPU `index`. To be called where nothing else of ours uses that GPU.

    Raises:
        ResourceError: one does not fit, or its process died.
        DataError: see `load_dataset`.
    """
    device, gpu = meter.device(index), meter.gpus()[index]
    # From here on this process's own context is there, and counts as taken.
    usable = meter.free(device)
    footprints = []
    for settings in networks:
        network, image_size, batch_size = settings.network, settings.recipe.image_size, settings.recipe.batch_size
        usage = in_fresh_process(use_memory, settings, device, meter)
        if usage is None:
            raise fits_not_once(in_words(settings), gpu.name, usable)
        peak = usage.peak_bytes(usable)
        footprints.append(Footprint(network=network, image_size=image_size, batch_size=batch_size, peak_bytes=peak))
    return Reading(gpu=gpu, usable_bytes=usable, footprints=tuple(footprints))


def fits_not_once(
    trial: str, place: str, usable_bytes: int, *, where: str = "resources.trials_per_gpu"
) -> ResourceError:
    """That `trial`, as `in_words` has it, is too large for a GPU, or a machine, that it has to itself."""
    return ResourceError(
        f"{where}: one trial must fit on {place}, got {trial}: out of memory "
        f"({usable_bytes / 2**30:.1f} GiB were free); lower batch_size or image_size, or end what else runs there"
    )


def use_memory(settings: TrialSettings, device: torch.device, meter: MemoryMeter) -> Usage | None:
    """What a trial with these settings takes, in a process that has done nothing else; None where it does not fit."""
    if device.type == "cuda":
        # What has no place of its own is on the current one.
        torch.cuda.set_device(device)
    try:
        _train_briefly(settings, device)
    except Exception as error:
        if failure_kind(error) != "memory":
            raise
        return None
    now, peak = meter.reserved(device)
    return Usage(free_bytes=meter.free(device), reserved_bytes=now, peak_reserved_bytes=peak)


def _train_briefly(settings: TrialSettings, device: torch.device) -> None:
    """Epochs as a trial has them, cut short: whole batches and the last, smaller one, then an evaluation's."""
    data = open_dataset(settings.data, settings.recipe.image_size)
    network = random_network(settings, data, device)
    optimizer = make_optimizer(network, settings)
    evaluation = evaluation_of(settings, device, insertion=True)
    few = min(evaluation.insertion_images, evaluation.num_inserted_together)
    train = _shortened(data.train, settings.recipe.batch_size, full_batches=FULL_STEPS)
    # What maps are scored by is there three times: in use, made ahead, and being made.
    full_batches = math.ceil(3 * evaluation.num_maps_together / evaluation.batch_size)
    # The larger part of the data has the larger share of them at a time.
    larger = max(data.test, data.validation, key=len)
    scored = _shortened(larger, evaluation.batch_size, full_batches=full_batches)
    learner = Learner(network, loss_terms)
    # The second of a kind is a graph already: a trial's are, later on.
    passes = Passes(network, after=lambda: learner.graph, num_plain=1)
    for epoch in range(1, EPOCHS + 1):
        train_epoch(network, train, optimizer, plan_of(settings, device, epoch), learner=learner)
        inserted = few if epoch == EPOCHS else 0
        measure(passes, scored, replace(evaluation, insertion_images=inserted))


def random_network(settings: TrialSettings, data: DataSet, device: torch.device) -> Network:
    """One as large and as fast as a trained one."""
    network = build_network(settings.network, num_classes=len(data.classes), weights="none", seed=0).to(device)
    network.is_recomputed = settings.activation_checkpointing
    return network


def _shortened(images: ImageSet, batch_size: int, *, full_batches: int) -> ImageSet:
    """So many whole batches and what is left over after all of them; or all, where there are not as many."""
    count = min(len(images), full_batches * batch_size + len(images) % batch_size)
    return images.subset(torch.arange(count))


def in_fresh_process(task: Callable[..., Answer], *given: Any) -> Answer:
    """What `task(*given)` returns, called in a new Python that has ended by the time this returns.

    Raises:
        GccSearchError: as `task` raised it.
        ResourceError: `task` raised something else, or its process died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, task, given))
    # Ctrl-C and a closed terminal go to all of its processes. Only this one has something to do about it, and ends the
    # other.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        raise _not_measured("its process died (killed, or crashed)") from None
    except BaseException:
        process.kill()
        raise
    finally:
        receiver.close()
        process.join()
    if isinstance(answer, GccSearchError):
        raise answer
    result: Answer = answer
    return result


def _answer(sender: Connection, task: Callable[..., Any], given: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")
    # What counts here is memory; the machine may be busy, and each thread would wait for the others.
    torch.set_num_threads(1)
    try:
        answer = task(*given)
    except GccSearchError as error:
        answer = error
    except Exception as error:
        answer = _not_measured(told(error))
    # Who asked may be gone.
    with contextlib.suppress(OSError):
        sender.send(answer)


def _not_measured(reason: str) -> ResourceError:
    return ResourceError(
        f"resources.trials_per_gpu: auto must be measured by training for a moment, got {reason}; {NUMBER_INSTEAD}"
    )


def wait_until_released(device: torch.device, meter: MemoryMeter, *, quiet_seconds: float = QUIET_SECONDS) -> None:
    """Returns once nothing more is freed on the device, or after half a minute.

    A process that ends holds its memory until the driver has cleared it away.
    """
    end = time.monotonic() + RELEASE_SECONDS
    most, since = meter.free(device), time.monotonic()
    while time.monotonic() - since < quiet_seconds and time.monotonic() < end:
        time.sleep(quiet_seconds / 10)
        if (free := meter.free(device)) > most + NOISE_BYTES:
            most, since = free, time.monotonic()
