"""Tests that want a GPU for themselves."""

from __future__ import annotations

import os

import pytest

# What others hold of it, and the time that they take, would be taken for one's own.
alone = pytest.mark.skipif(
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1,
    reason="wants the GPU for itself: make test TESTERS=0",
)
