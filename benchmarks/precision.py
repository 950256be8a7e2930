"""How a step is carried out: precision, memory layout, optimiser, compiled parts, one CUDA graph, recomputed blocks.

What a step computes stays the same; `gradient_error` says how nearly: |g - g32| / |g32| against the float32 step.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from benchmarks.step import FLOOR, OURS, VARIANTS, make_batch, make_loss, saved_bytes, take_step
from benchmarks.timing import best_device, hardware_of, synchronise
from gcc_search.training import terms
from gcc_search.training.graphed import Graphed
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network

NETWORKS = ("resnet18", "convnext_tiny", "resnet50")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to carry out a step."""

    name: str
    bfloat16: bool = True
    channels_last: bool = True
    fused: bool = False
    benchmark: bool = False
    graph: bool = False
    compiled_network: bool = False
    recomputed: bool = False


_GRAPH = Way(name="bfloat16, fused SGD, graph", fused=True, graph=True)
ON_CUDA = (
    Way(name="float32", bfloat16=False),
    Way(name="bfloat16"),
    Way(name="bfloat16, contiguous", channels_last=False),
    Way(name="bfloat16, fused SGD", fused=True),
    _GRAPH,
    replace(_GRAPH, name="the same, cuDNN's choice timed", benchmark=True),
    Way(name="bfloat16, fused SGD, network compiled", fused=True, compiled_network=True),
    Way(name="bfloat16, fused SGD, activation checkpointing", fused=True, recomputed=True),
)
ON_CPU = (
    Way(name="float32", bfloat16=False),
    Way(name="float32, contiguous", bfloat16=False, channels_last=False),
    Way(name="float32, fused SGD", bfloat16=False, fused=True),
    Way(name="bfloat16"),
    Way(name="float32, network compiled", bfloat16=False, compiled_network=True),
    Way(name="float32, activation checkpointing", bfloat16=False, recomputed=True),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way: medians over the rounds.

    Args:
        saved_bytes: what autograd keeps of our step for its backward pass; None where a compiler decides.
        peak_bytes: None on the CPU, and where a graph is replayed.
    """

    network: str
    way: str
    batch_size: int
    floor_seconds: float
    seconds: float
    time_ratio: float
    gradient_error: float
    saved_bytes: int | None
    peak_bytes: int | None
    preparing_seconds: float


def measure_way(name: str, way: Way, *, batch_size: int, rounds: int, device: torch.device, truth: Tensor) -> Row:
    begun = time.perf_counter()
    with _carried_out(way, device):
        network = _network(name, way, device)
        error = float((_gradient(network, batch_size, device) - truth).norm() / truth.norm())
        steps = {variant: _step(network, variant, way, batch_size, device) for variant in (FLOOR, OURS)}
        saved = None
        if not way.compiled_network:
            saved = saved_bytes(_loss(network, OURS, batch_size, device), network.parameters())
        for step in steps.values():
            step()
        synchronise(device)
        preparing = time.perf_counter() - begun
        seconds: dict[str, list[float]] = {variant: [] for variant in steps}
        peak = None
        for _ in range(rounds):
            for variant, step in steps.items():
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                seconds[variant].append(_time(step, device, repeats=10 if device.type == "cuda" else 1))
                # What a replayed graph works in is not counted as allocated.
                if device.type == "cuda" and variant == OURS and not way.graph:
                    peak = torch.cuda.max_memory_allocated(device)
    floor, ours = (float(torch.tensor(seconds[variant]).median()) for variant in (FLOOR, OURS))
    return Row(
        network=name,
        way=way.name,
        batch_size=batch_size,
        floor_seconds=floor,
        seconds=ours,
        time_ratio=ours / floor,
        gradient_error=error,
        saved_bytes=saved,
        peak_bytes=peak,
        preparing_seconds=preparing,
    )


def _network(name: str, way: Way, device: torch.device) -> Network:
    network = build_network(name, num_classes=101, weights="none", seed=0).to(device).train()
    network.is_recomputed = way.recomputed
    if not way.channels_last:
        network = network.to(memory_format=torch.contiguous_format)
    if way.compiled_network:
        network.features = torch.compile(network.features)  # type: ignore[method-assign]
    return network


@contextlib.contextmanager
def _carried_out(way: Way, device: torch.device) -> Iterator[None]:
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=way.bfloat16)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(terms, "precision", return_value=autocast))
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=way.benchmark, allow_tf32=True))
        yield


def _gradient(network: Network, batch_size: int, device: torch.device) -> Tensor:
    """Of the first step, without random draws."""
    depths = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    nn.ModuleList(depths).eval()
    network.zero_grad()
    _loss(network, OURS, batch_size, device)().backward()  # type: ignore[no-untyped-call]
    nn.ModuleList(depths).train()
    gradients = [p.grad.detach().float().flatten() for p in network.parameters() if p.grad is not None]
    return torch.cat(gradients)


def _loss(network: Network, variant: str, batch_size: int, device: torch.device) -> Callable[..., Tensor]:
    return make_loss(network, make_batch(network, batch_size, device), VARIANTS[variant])


def _step(network: Network, variant: str, way: Way, batch_size: int, device: torch.device) -> Callable[[], Tensor]:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=way.fused)
    loss = _loss(network, variant, batch_size, device)
    step = partial(take_step, optimizer, loss)
    if not way.graph:
        return step
    for parameter in network.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    written = network.state_dict().values()
    return Graphed(lambda unused: step(), [torch.zeros(1, device=device)], written=written, owners=step).replay


def _time(step: Callable[[], Tensor], device: torch.device, *, repeats: int) -> float:
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(repeats):
        step()
    synchronise(device)
    return (time.perf_counter() - begun) / repeats


def measure_precision(networks: Sequence[str] | None = None, *, compiled: bool = True) -> dict[str, Any]:
    """The section of the results file, printed as well; on the GPU where there is one.

    Args:
        compiled: the ways that compile as well, which take half a minute each.
    """
    device = best_device()
    usual = NETWORKS if device.type == "cuda" else NETWORKS[:1]
    known, batch_size, rounds = (ON_CUDA, 32, 5) if device.type == "cuda" else (ON_CPU, 4, 2)
    ways = [way for way in known if compiled or not way.compiled_network]
    rows: list[Row] = []
    for name in networks or usual:
        with _carried_out(Way(name="float32", bfloat16=False), device):
            truth = _gradient(_network(name, ways[0], device), batch_size, device)
        for way in track(ways, description=name, console=Console(stderr=True)):
            torch._dynamo.reset()
            try:
                row = measure_way(name, way, batch_size=batch_size, rounds=rounds, device=device, truth=truth)
            except Exception as error:
                print(f"{name}, {way.name}: {type(error).__name__}: {str(error)[:2000]}", file=sys.stderr)
                continue
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    show(rows)
    return {"precision": [asdict(row) for row in rows]} | hardware_of(device)


def show(rows: list[Row]) -> None:
    times, bytes_kept = ("floor ms", "ours ms", "ours / floor"), ("saved MiB", "peak MiB")
    table = Table("network", "way", *times, "gradient error", *bytes_kept, "preparing s")
    for row in rows:
        table.add_row(
            row.network,
            row.way,
            f"{1000 * row.floor_seconds:.2f}",
            f"{1000 * row.seconds:.2f}",
            f"{row.time_ratio:.3f}",
            f"{row.gradient_error:.1e}",
            "" if row.saved_bytes is None else f"{row.saved_bytes / 2**20:.0f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f}",
            f"{row.preparing_seconds:.1f}",
        )
    Console(width=None if sys.stdout.isatty() else 130).print(table)
