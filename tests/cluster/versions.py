"""The versions that all cluster files agree on."""

from __future__ import annotations

import re

from tests.cluster.commands import ROOT


def ray_version() -> str:
    """Ray's in constraints.txt, as in 2.60.0."""
    (version,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    return version


def python_of_image(image: str) -> str | None:
    """3.12 of rayproject/ray:2.60.0-py312; None where the name does not say."""
    found = re.search(r"-py3(\d+)", image)
    return f"3.{found[1]}" if found else None
