"""What a consistency step costs, against two-view cross-entropy through the same network: forward to optimiser."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.rivals import RIVALS, Batch
from gcc_search.saliency.geometry import draw_transforms
from gcc_search.settings import Explanation
from gcc_search.training.networks import Network, build_network
from gcc_search.training.terms import loss_terms

NETWORKS = ("resnet18", "resnet50", "convnext_tiny")
FLOOR = "two views, cross-entropy only"
OURS = "consistency (SSIM) and sparsity"
VARIANTS = {
    "one view, cross-entropy only": Explanation(),
    FLOOR: Explanation(ce_on_views="both"),
    OURS: Explanation(alpha=1.0, beta=0.1),
    "consistency (correlation) and sparsity": Explanation(alpha=1.0, beta=0.1, distance="correlation"),
    "the same (SSIM), second view detached": Explanation(alpha=1.0, beta=0.1, detach="second-view"),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant of a step: medians over rounds, as ratios to `FLOOR` and to `OURS`."""

    network: str
    batch_size: int
    variant: str
    seconds: float
    time_ratio: float
    time_to_ours: float
    saved_bytes: int
    saved_ratio: float
    saved_to_ours: float


def measure_network(name: str, *, batch_size: int, rounds: int, device: torch.device) -> list[Row]:
    """Variants take turns, so that a busy machine slows all of them alike."""
    network = build_network(name, num_classes=101, weights="none", seed=0).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    losses = _losses(network, make_batch(batch_size, device))

    def step(loss: Callable[[], Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    seconds: dict[str, list[float]] = {variant: [] for variant in losses}
    for number in range(rounds + 1):
        for variant, loss in losses.items():
            taken = _seconds(lambda loss=loss: step(loss), device)
            if number > 0:
                seconds[variant].append(taken)
    medians = {variant: float(torch.tensor(taken).median()) for variant, taken in seconds.items()}
    saved = {variant: saved_bytes(loss, network.parameters()) for variant, loss in losses.items()}
    return [
        Row(
            network=name,
            batch_size=batch_size,
            variant=variant,
            seconds=medians[variant],
            time_ratio=medians[variant] / medians[FLOOR],
            time_to_ours=medians[variant] / medians[OURS],
            saved_bytes=saved[variant],
            saved_ratio=saved[variant] / saved[FLOOR],
            saved_to_ours=saved[variant] / saved[OURS],
        )
        for variant in losses
    ]


def make_batch(batch_size: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, 224, 224, generator=generator).to(device, memory_format=torch.channels_last)
    frame = torch.full((batch_size,), 224)
    second, third = (draw_transforms(frame, frame, scale=(0.08, 1.0), generator=generator).to(device) for _ in range(2))
    labels = torch.randint(101, (batch_size,), generator=generator).to(device)
    return Batch(images=images, labels=labels, second=second, third=third)


def _losses(network: Network, batch: Batch) -> dict[str, Callable[[], Tensor]]:
    def ours(explanation: Explanation) -> Tensor:
        terms = loss_terms(network, batch.images, batch.labels, batch.second, explanation)
        return terms.total(explanation.alpha, explanation.beta)

    found: dict[str, Callable[[], Tensor]] = {
        variant: lambda explanation=explanation: ours(explanation) for variant, explanation in VARIANTS.items()
    }
    return found | {name: lambda loss=loss: loss(network, batch) for name, loss in RIVALS.items()}


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass; a storage that several operations keep counts once.

    `parameters` are there anyway, and are left out.
    """
    storages: dict[int, int] = {}
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    # A graph that keeps its own outputs through such hooks is a ring that nothing frees: what it keeps is taken away.
    boxes: list[list[Tensor]] = []

    def pack(tensor: Tensor) -> list[Tensor]:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        boxes.append([tensor])
        return boxes[-1]

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box[0]):
        kept = forward()
    del kept
    for box in boxes:
        box.clear()
    return sum(storages.values())


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def measure_steps() -> dict[str, object]:
    """The section of the results file, printed as well; on the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch_size, rounds = (32, 20) if device.type == "cuda" else (8, 5)
    rows: list[Row] = []
    for network in track(NETWORKS, description="measuring", console=Console(stderr=True)):
        rows += measure_network(network, batch_size=batch_size, rounds=rounds, device=device)
    show(rows)
    hardware = {"hardware": torch.cuda.get_device_name()} if device.type == "cuda" else {}
    return {"threads": torch.get_num_threads(), "step": [asdict(row) for row in rows]} | hardware


def show(rows: list[Row]) -> None:
    table = Table("network", "variant", "s a step", "time / floor", "/ ours", "saved MiB", "saved / floor", "/ ours")
    for row in rows:
        numbers = (
            f"{row.seconds:.3f}",
            f"{row.time_ratio:.2f}",
            f"{row.time_to_ours:.2f}",
            f"{row.saved_bytes / 2**20:.0f}",
            f"{row.saved_ratio:.2f}",
            f"{row.saved_to_ours:.2f}",
        )
        table.add_row(row.network, row.variant, *numbers)
    # A pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 110).print(table)
