"""An S3 server for each test, and an environment that knows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.storage.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server


@contextmanager
def serve(root: Path) -> Iterator[S3Server]:
    """Running, with one empty bucket, and the environment that leads to it. What fails is tried again for 5 seconds."""
    server = S3Server(root=root)
    (root / BUCKET).mkdir()
    with server.running(), pytest.MonkeyPatch.context() as patch:
        environment = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "GCC_SEARCH_STORAGE_SECONDS": "5",
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def s3(tmp_path_factory) -> Iterator[S3Server]:
    """See `serve`."""
    with serve(tmp_path_factory.mktemp("s3")) as server:
        yield server
