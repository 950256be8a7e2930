"""What a consistency step costs, against two-view cross-entropy through the same network: forward to optimiser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks.rivals import RIVALS, WITH_OUR_LOSSES, Batch
from benchmarks.timing import best_device, hardware_of, medians_of, synchronise, take_turns
from benchmarks.trial_at_hand import make_sgd
from gcc_search.saliency.geometry import Transforms, draw_transforms
from gcc_search.saliency.resampling import Resampling
from gcc_search.settings import Explanation
from gcc_search.training.graphed import Graphed
from gcc_search.training.network import Network
from gcc_search.training.networks import build_network
from gcc_search.training.terms import loss_terms, matrices_for

SIZE = 224
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
    """One variant of a step: medians over rounds, as ratios to `FLOOR` and to `OURS`.

    Args:
        replayed_seconds: the step as one CUDA graph, as trials take it there; None on the CPU, or where there is none.
        peak_bytes: of the GPU, over what the network, its momentum and the images take; None on the CPU.
        ahead_bytes: of matrices that are made beside the step before; in `saved_bytes` and `peak_bytes`. 0 on the CPU,
            which makes them within the step.
        ahead_seconds: how long the GPU takes to make them, as one CUDA graph; in no other time. None on the CPU.
    """

    network: str
    batch_size: int
    variant: str
    seconds: float
    time_ratio: float
    time_to_ours: float
    saved_bytes: int
    saved_ratio: float
    saved_to_ours: float
    replayed_seconds: float | None
    replayed_ratio: float | None
    replayed_to_ours: float | None
    peak_bytes: int | None
    ahead_bytes: int
    ahead_seconds: float | None


def measure_network(name: str, *, batch_size: int, rounds: int, device: torch.device) -> list[Row]:
    """Variants take turns, so that a busy machine slows all of them alike."""
    network = build_network(name, num_classes=101, weights="none", seed=0).to(device).train()
    optimizer = make_sgd(list(network.parameters()))
    batch = make_batch(network, batch_size, device)
    losses = _losses(network, batch)
    steps: dict[str, Callable[[], Tensor]] = {
        variant: partial(take_step, optimizer, loss) for variant, loss in losses.items()
    }
    medians = medians_of(take_turns(steps, device, rounds=rounds))
    # Whatever takes SSIM of raw maps has the same matrices.
    ahead = {variant: _bytes_of(_ahead_of(network, batch, variant)) for variant in steps}
    saved = {variant: saved_bytes(loss, network.parameters()) + ahead[variant] for variant, loss in losses.items()}
    peaks = {variant: _peak_bytes(of_variant, optimizer, device) for variant, of_variant in steps.items()}
    making = _seconds_ahead(network, batch, device)
    replays = _replays(steps, network, optimizer) if device.type == "cuda" else {}
    replayed = medians_of(take_turns(replays, device, rounds=rounds))
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
            replayed_seconds=replayed.get(variant),
            replayed_ratio=replayed[variant] / replayed[FLOOR] if variant in replayed else None,
            replayed_to_ours=replayed[variant] / replayed[OURS] if variant in replayed else None,
            peak_bytes=None if (peak := peaks[variant]) is None else peak + ahead[variant],
            ahead_bytes=ahead[variant],
            ahead_seconds=making if ahead[variant] else None,
        )
        for variant in losses
    ]


def _replays(
    steps: dict[str, Callable[[], Tensor]], network: Network, optimizer: torch.optim.Optimizer
) -> dict[str, Callable[[], Tensor]]:
    """Each step as one CUDA graph, those aside that cannot be one."""
    momentum = [optimizer.state[parameter]["momentum_buffer"] for parameter in network.parameters()]
    written = [*network.state_dict().values(), *momentum]
    replays: dict[str, Callable[[], Tensor]] = {}
    for variant, step in steps.items():
        try:
            graphed = Graphed(partial(_step_on, step), [momentum[0][:0]], written=written, owners=step)
        except RuntimeError as error:
            print(f"{variant}: not replayed: {error}", file=sys.stderr)
        else:
            replays[variant] = graphed.replay
    return replays


def _step_on(step: Callable[[], Tensor], unused: Tensor) -> Tensor:
    return step()


def _peak_bytes(step: Callable[[], Tensor], optimizer: torch.optim.Optimizer, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    step()
    # A step frees the last one's gradients before it begins.
    optimizer.zero_grad(set_to_none=True)
    synchronise(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    return torch.cuda.max_memory_allocated(device) - before


def make_batch(network: Network, batch_size: int, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, SIZE, SIZE, generator=generator).to(device, memory_format=torch.channels_last)
    frame = torch.full((batch_size,), SIZE)
    second, third = (draw_transforms(frame, frame, scale=(0.08, 1.0), generator=generator).to(device) for _ in range(2))
    labels = torch.randint(101, (batch_size,), generator=generator).to(device)
    matrices = _made_ahead(network, second, VARIANTS[OURS]) if device.type == "cuda" else None
    return Batch(images=images, labels=labels, second=second, third=third, matrices=matrices)


def _made_ahead(network: Network, transforms: Transforms, explanation: Explanation) -> Resampling | None:
    return matrices_for(explanation, transforms, network.map_side(SIZE), SIZE)


def ready_matrices(network: Network, batch: Batch, explanation: Explanation) -> Resampling | None:
    """What trials on a GPU have ready before a step begins; a CPU makes it within the step."""
    return _made_ahead(network, batch.second, explanation) if batch.images.is_cuda else None


def _ahead_of(network: Network, batch: Batch, variant: str) -> Resampling | None:
    if variant in VARIANTS:
        return ready_matrices(network, batch, VARIANTS[variant])
    return batch.matrices if variant in WITH_OUR_LOSSES else None


def _bytes_of(matrices: Resampling | None) -> int:
    return 0 if matrices is None else sum(tensor.nbytes for tensor in matrices.tensors())


def _seconds_ahead(network: Network, batch: Batch, device: torch.device) -> float | None:
    if device.type != "cuda":
        return None

    def make(boxes: Tensor, flips: Tensor) -> Tensor:
        made = _made_ahead(network, Transforms(boxes=boxes, flips=flips), VARIANTS[OURS])
        assert made is not None, "SSIM is asked for"
        return made.tensors()[-1]

    making = Graphed(make, [batch.second.boxes, batch.second.flips], written=[], owners=network)
    return medians_of(take_turns({"matrices": making.replay}, device, rounds=10))["matrices"]


def take_step(optimizer: torch.optim.SGD, loss: Callable[[], Tensor]) -> Tensor:
    """The loss, after one step down it."""
    optimizer.zero_grad(set_to_none=True)
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value.detach()


def make_loss(network: Network, batch: Batch, explanation: Explanation) -> Callable[[], Tensor]:
    """The trial's own loss of `batch`, whose matrices are made now."""
    ready = ready_matrices(network, batch, explanation)

    def loss() -> Tensor:
        terms = loss_terms(network, batch.images, batch.labels, batch.second, explanation, ready)
        return terms.total(explanation.alpha, explanation.beta)

    return loss


def _losses(network: Network, batch: Batch) -> dict[str, Callable[[], Tensor]]:
    found = {variant: make_loss(network, batch, explanation) for variant, explanation in VARIANTS.items()}
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


def measure_steps(networks: Sequence[str] | None, *, batch_size: int | None = None) -> dict[str, object]:
    """The section of the results file, printed as well; on the GPU where there is one.

    Args:
        networks: which; `NETWORKS` where None.
    """
    device = best_device()
    usual, rounds = (32, 10) if device.type == "cuda" else (4, 3)
    batch_size = batch_size or usual
    rows: list[Row] = []
    for network in track(networks or NETWORKS, description="measuring", console=Console(stderr=True)):
        rows += measure_network(network, batch_size=batch_size, rounds=rounds, device=device)
    show(rows)
    return {"threads": torch.get_num_threads(), "step": [asdict(row) for row in rows]} | hardware_of(device)


def show(rows: list[Row]) -> None:
    table = Table("network", "variant", "ms a step", "/ floor", "/ ours", "saved MiB", "/ floor", "/ ours")
    if rows[0].peak_bytes is not None:
        for title in ("replayed ms", "/ floor", "/ ours", "peak MiB"):
            table.add_column(title)
    for row in rows:
        numbers = (
            f"{1000 * row.seconds:.1f}",
            f"{row.time_ratio:.2f}",
            f"{row.time_to_ours:.2f}",
            f"{row.saved_bytes / 2**20:.0f}",
            f"{row.saved_ratio:.2f}",
            f"{row.saved_to_ours:.2f}",
        )
        on_gpu = () if row.peak_bytes is None else (*_replayed(row), f"{row.peak_bytes / 2**20:.0f}")
        table.add_row(row.network, row.variant, *numbers, *on_gpu)
    # A pipe has no width of its own.
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _replayed(row: Row) -> tuple[str, str, str]:
    if row.replayed_seconds is None:
        return ("-", "-", "-")
    return (f"{1000 * row.replayed_seconds:.2f}", f"{row.replayed_ratio:.2f}", f"{row.replayed_to_ours:.2f}")
