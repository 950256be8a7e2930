"""The validator of the Dockerfile notices mistakes."""

from __future__ import annotations

import pytest

from tests.cluster.container import check
from tests.cluster.validators import read


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("FROM", "FORM"),
        ("2.60.0", "2.59.0"),
        ("2.60.0-py312", "latest"),
        ("py312", "py310"),
        ("COPY constraints.txt", "COPY constraint.txt"),
        ("/tmp/gcc-search/\n", "/tmp/gcc-search\n"),
        ("-c /tmp/gcc-search/constraints.txt", ""),
        ('[cluster]"', "[cluster]"),
        ("NVIDIA_DRIVER_CAPABILITIES=", "NVIDIA_DRIVER_CAPABILITIES "),
    ],
)
def test_a_mistake_is_noticed(right, wrong):
    assert check(read("Dockerfile")) == []
    assert right in read("Dockerfile")
    assert check(read("Dockerfile").replace(right, wrong)) != []
