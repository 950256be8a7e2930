"""Which validator a file of cluster/ has: exactly one, by its name."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster import container, kubernetes, ray_up, slurm
from tests.cluster.commands import ROOT

FOLDER = ROOT / "cluster"

VALIDATORS: dict[str, Callable[[str], list[str]]] = {
    "local.yaml": ray_up.check,
    "aws.yaml": ray_up.check,
    "gcp.yaml": ray_up.check,
    "azure.yaml": ray_up.check,
    "kuberay-cluster.yaml": kubernetes.check,
    "kuberay-rayjob.yaml": kubernetes.check,
    "slurm.sbatch": slurm.check,
    "Dockerfile": container.check,
}


def read(name: str) -> str:
    return (FOLDER / name).read_text()
