"""Weights to start from, by the name of a file or of torchvision's: found or fetched, and read."""

from __future__ import annotations

import re
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

import torch
from safetensors.torch import load_file
from torch import Tensor

from gcc_search.errors import WeightsError
from gcc_search.homes import expanded
from gcc_search.plugins import bringers

TORCHVISION_WEIGHTS = ("IMAGENET1K_V1", "DEFAULT")

_DENSE_PART = re.compile(r"(?<=\.)(norm|conv)\.([12])(?=\.)")
# Seconds until a server counts as out of reach.
FETCH_TIMEOUT = 10.0


def is_published(weights: str) -> bool:
    """Whether `weights` of `build_network` are a torchvision name."""
    return weights in TORCHVISION_WEIGHTS


def weights_file(name: str, weights: str) -> Path:
    """Where `weights` of `build_network` are read from, unless they are `none`.

    Raises:
        WeightsError: a torchvision name that is neither in torch's cache nor can be fetched; no path at all.
    """
    if is_published(weights):
        return _torchvision_file(name, weights)
    return expanded(weights, where="weights", kind=WeightsError)


def read_weights(name: str, weights: str) -> dict[str, Tensor]:
    """The tensors that `weights` of `build_network`, unless they are `none`, stand for; on the CPU.

    Raises:
        WeightsError: not there and not to be fetched, or torn.
    """
    path = weights_file(name, weights)
    if not path.is_file():
        known = ", ".join(TORCHVISION_WEIGHTS)
        raise WeightsError(f"weights: {weights}: must be a file, none, or one of {known}, got nothing there")
    tensors = read_tensors(path)
    return _renamed(tensors) if name.startswith("densenet") else tensors


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DenseNet's published files are of before its layers' parts had names that can be attributes: `norm.1`, `norm1`"""
    return {_DENSE_PART.sub(r"\1\2", name): value for name, value in tensors.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, on the CPU.

    Raises:
        WeightsError: torn, or no such file.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception:
        # Over torn bytes the readers raise whatever comes: IndexError, AssertionError, struct.error.
        raise _not_tensors(path) from None
    if not isinstance(content, dict):
        raise _not_tensors(path)
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _not_tensors(path: Path) -> WeightsError:
    return WeightsError(f"weights: {path}: must be a whole file of tensors, got a torn or foreign one; copy it again")


def _torchvision_file(name: str, weights: str) -> Path:
    """Where torch's cache keeps the published weights; fetched where they are not there yet."""
    if name == "convnet_small" or bringers(name):
        raise WeightsError(f"weights: {weights}: {name} has no published weights; use none, baseline or a file")
    import torchvision

    url: str = torchvision.models.get_model_weights(name)[weights].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.exists():
        return path
    try:
        _fetch(url, path)
    except (OSError, HTTPException, RuntimeError):
        raise WeightsError(
            f"weights: {weights} of {name}: must be in torch's cache or reachable, got neither; "
            f"put the file of {url} at {path}, or name a file"
        ) from None
    return path


def _fetch(url: str, path: Path) -> None:
    # torch.hub waits for minutes where a firewall swallows packets.
    with urlopen(Request(url, method="HEAD"), timeout=FETCH_TIMEOUT):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    # torchvision's names end in the beginning of their sha256.
    digest = path.stem.rsplit("-", 1)[1]
    torch.hub.download_url_to_file(url, str(path), digest, progress=sys.stderr.isatty())
