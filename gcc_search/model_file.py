"""A network to hand on: one safetensors file of torchvision's names that says itself what it is and was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gcc_search.atomic import write_atomically
from gcc_search.errors import WeightsError

SUFFIX = ".safetensors"
SCHEMA_VERSION = 1
_PREFIX = "gcc_search."
_VERSION, _DIGEST = f"{_PREFIX}schema_version", f"{_PREFIX}sha256"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the file says of its network; each stands in its metadata as JSON under `gcc_search.NAME`.

    Args:
        classes: output -> class name.
        image_size: side in pixels of what the network sees. crop: share of the short side that the centre crop keeps.
        mean, std: of RGB in [0, 1], what images are normalised by.
        trial: RUN/ID. settings: its `TrialSettings` as JSON, without paths of the machine that it was trained on.
        data_fingerprint: of the images it was trained, validated and tested on.
        versions: of the packages it was trained with; none in older files.
    """

    network: str
    classes: tuple[str, ...]
    image_size: int
    crop: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    trial: str
    settings: dict[str, Any]
    data_fingerprint: str
    versions: dict[str, str] = field(default_factory=dict)


def write_model(path: Path, weights: Mapping[str, Tensor], facts: ModelFacts) -> None:
    """Writes `weights` in float32 (counters as they are) with `facts` and a sha256 over both.

    Raises:
        ResultsError: the folder cannot be written to.
    """
    tensors = {name: _plain(value) for name, value in weights.items()}
    told = {f"{_PREFIX}{name}": json.dumps(value) for name, value in asdict(facts).items()}
    # `format: pt` is what libraries around PyTorch look for.
    told |= {"format": "pt", _VERSION: str(SCHEMA_VERSION)}
    write_atomically(path, save(tensors, metadata=told | {_DIGEST: _digest(tensors, told)}))


def read_model(path: Path) -> tuple[ModelFacts, dict[str, Tensor]]:
    """What `write_model` wrote, on the CPU.

    Raises:
        WeightsError: no file, no export of ours, of another version, torn, or changed by a single bit.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise WeightsError(f"{path}: must be a trial directory or a model that gcc-search exported, got {got}")
    try:
        with safe_open(path, framework="pt") as file:
            told: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        rule = "must be a trial directory or a whole model that gcc-search exported"
        raise WeightsError(f"{path}: {rule}, got: {_one_line(error)}; name another, or copy it again") from None
    return _facts(path, told, tensors), tensors


def _facts(path: Path, told: dict[str, str], tensors: dict[str, Tensor]) -> ModelFacts:
    if _DIGEST not in told or _VERSION not in told:
        raise WeightsError(f"{path}: must be a model that gcc-search exported, got another's weights")
    if told[_VERSION] != str(SCHEMA_VERSION):
        rule = f"schema_version must be {SCHEMA_VERSION}"
        raise WeightsError(f"{path}: {rule}, got {told[_VERSION]}; read it with the gcc-search that wrote it")
    rest = {name: value for name, value in told.items() if name != _DIGEST}
    if told[_DIGEST] != _digest(tensors, rest):
        raise WeightsError(f"{path}: checksum must match, got another: the file was changed; copy or export it again")
    names = [item.name for item in fields(ModelFacts)]
    if f"{_PREFIX}versions" not in told:
        names.remove("versions")
    values = {name: json.loads(told[f"{_PREFIX}{name}"]) for name in names}
    listed = ("classes", "mean", "std")
    return ModelFacts(**values | {name: tuple(values[name]) for name in listed})


def _plain(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return (value.float() if value.is_floating_point() else value).contiguous()


def _digest(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    """Over names, types, shapes and bytes of the tensors, and over every other word of the file."""
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(f"{error}".split())
