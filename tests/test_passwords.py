"""A password is neither shown nor kept."""

from __future__ import annotations

import sys

import pytest

from gcc_search.cli.options import command_line
from gcc_search.passwords import without_password
from gcc_search.search.going_on import resume_command


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/studies", "postgresql://me:***@host:5432/studies"),
        ("mysql+pymysql://:s3:c/r?t@host/studies", "mysql+pymysql://:***@host/studies"),
        # SQLAlchemy refuses it, and the refusal is shown.
        ("postgresql://me:sec@ret@host/studies", "postgresql://me:***@host/studies"),
        ("postgresql://host/s?user=me&password=secret&x=1", "postgresql://host/s?user=me&password=***&x=1"),
        ("postgresql://host/s?sslpassword=secret", "postgresql://host/s?sslpassword=***"),
        ("postgresql://me@host/studies", "postgresql://me@host/studies"),
        ("sqlite:////a:b/c@d.db", "sqlite:////a:b/c@d.db"),
        ("s3://bucket/runs?endpoint_override=http://host:9000", "s3://bucket/runs?endpoint_override=http://host:9000"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize("written", [["--storage", "mysql://me:secret@host/s"], ["--storage=mysql://me:secret@host/s"]])
def test_a_command_is_recorded_without_the_password_of_its_database(monkeypatch, written):
    monkeypatch.setattr(sys, "argv", ["gcc-search", "search", *written, "--name", "a b"])
    told = "gcc-search search " + "=".join(written).replace("secret", "***") + " --name 'a b'"
    assert command_line().replace("--storage 'mysql", "--storage='mysql").replace("'", "") == told.replace("'", "")


def test_the_command_that_goes_on_is_shown_without_it():
    told = resume_command("runs/cub", gpus=4, storage="mysql://me:secret@host/s", address=None)
    assert told == "gcc-search resume runs/cub --gpus 4 --storage 'mysql://me:***@host/s'"
