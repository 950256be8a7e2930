"""An S3 server for each test, and an environment that knows it."""

from __future__ import annotations

import pytest

from tests.storage.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server


@pytest.fixture
def s3(tmp_path_factory, monkeypatch):
    """Running, with one empty bucket. What fails is tried again for five seconds."""
    server = S3Server(root=tmp_path_factory.mktemp("s3"))
    (server.root / BUCKET).mkdir()
    with server.running():
        environment = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "GCC_SEARCH_STORAGE_SECONDS": "5",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield server
