"""The Dockerfile of the Kubernetes pods: few instructions, each known."""

from __future__ import annotations

import re

from tests.cluster.commands import ROOT, bash_complaints
from tests.cluster.versions import python_of_image, ray_version

INSTRUCTIONS = {"FROM", "COPY", "RUN", "ENV"}


def check(text: str) -> list[str]:
    """Complaints about the file, one a line; none: it is well."""
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    said = [f"unknown instruction {line[0]}" for line in lines if line[0] not in INSTRUCTIONS or len(line) != 2]
    if said:
        return said
    if [line[0] for line in lines][:1] != ["FROM"]:
        said.append("must begin with FROM")
    for instruction, rest in lines:
        if instruction == "FROM":
            said += image_complaints(rest)
        elif instruction == "COPY":
            said += copy_complaints(rest)
        elif instruction == "RUN":
            said += bash_complaints(rest)
        elif not all(re.fullmatch(r"[A-Z_]+=\S+", word) for word in rest.split()):
            said.append(f"ENV: must be NAME=VALUE ..., got {rest}")
    if "-c /tmp/gcc-search/constraints.txt" not in text:
        said.append("must install with constraints.txt")
    return said


def image_complaints(image: str) -> list[str]:
    if not image.startswith(f"rayproject/ray:{ray_version()}-py"):
        return [f"FROM: must be Ray {ray_version()}, got {image}"]
    return [] if python_of_image(image) in ("3.11", "3.12") else [f"FROM: must be Python 3.11 or 3.12, got {image}"]


def copy_complaints(rest: str) -> list[str]:
    """Sources are in the checkout, or the wheel that the header's commands make."""
    *sources, target = rest.split()
    missing = [source for source in sources if source != "dist/*.whl" and not (ROOT / source).exists()]
    said = [f"COPY: no {source} in the checkout" for source in missing]
    return said if target.endswith("/") else [*said, f"COPY: the target must end in /, got {target}"]
