"""The latest two checkpoints of a trial. A file's name carries its digest: a torn one is passed over, never read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from gcc_search.atomic import remove_file, sha256, write_atomically
from gcc_search.training.network import Network

KEPT = 2
_NAME = re.compile(r"epoch-(\d{6})-([0-9a-f]{16})\.safetensors")
_WEIGHT, _MOMENTUM = "model.", "momentum."


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State after `epoch`. `refused` names newer files that were torn or could not be read."""

    epoch: int
    weights: dict[str, Tensor]
    momentum: dict[str, Tensor]
    refused: tuple[str, ...]

    def restore(self, network: Network, optimizer: torch.optim.Optimizer) -> None:
        network.model.load_state_dict(self.weights)
        for name, parameter in network.model.named_parameters():
            if name in self.momentum:
                buffer = self.momentum[name].to(parameter.device)
                optimizer.state[parameter]["momentum_buffer"] = buffer.contiguous(
                    memory_format=torch.channels_last if buffer.dim() == 4 else torch.contiguous_format
                )


def save_checkpoint(folder: Path, network: Network, optimizer: torch.optim.Optimizer, *, epoch: int) -> None:
    """Writes the state after `epoch`, and removes all but it and the latest one before it.

    Later ones go too: they were torn, or training would have gone on from them.

    Raises:
        ResultsError: the folder cannot be written to.
    """
    tensors = {_WEIGHT + name: value for name, value in network.model.state_dict().items()}
    for name, parameter in network.model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[_MOMENTUM + name] = momentum
    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    written = folder / f"epoch-{epoch:06d}-{sha256(content)[:16]}.safetensors"
    write_atomically(written, content)
    earlier = [path for path in _files(folder) if path.name < f"epoch-{epoch:06d}"]
    for path in set(_files(folder)) - {written, *earlier[: KEPT - 1]}:
        remove_file(path)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None where there is none."""
    refused: list[str] = []
    for path in _files(folder):
        match, content = _NAME.fullmatch(path.name), _read(path)
        assert match is not None, "_files lists only names of this form"
        if content is None or not sha256(content).startswith(match[2]):
            refused.append(str(path))
            continue
        tensors = load(content)
        return Checkpoint(
            epoch=int(match[1]),
            weights=_strip(tensors, _WEIGHT),
            momentum=_strip(tensors, _MOMENTUM),
            refused=tuple(refused),
        )
    return None


def save_weights(path: Path, network: Network) -> None:
    """Writes the trained network alone, under torchvision's names, for anyone to load."""
    content = save({name: value.detach().cpu().contiguous() for name, value in network.model.state_dict().items()})
    write_atomically(path, content)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        # A bad sector is as good as a torn file: the caller names it as refused.
        return None


def _files(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("epoch-*.safetensors") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
