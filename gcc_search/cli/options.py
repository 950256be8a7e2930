"""Options that several commands share, and what was typed."""

from __future__ import annotations

import csv
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from gcc_search.errors import SpaceError
from gcc_search.passwords import without_password

PIPE_WIDTH = 110

# Text, not Path: two slashes of a URL are two.
Runs = Annotated[
    list[str],
    typer.Argument(help="Runs, as in runs/shapes or s3://bucket/runs/shapes; several are read together."),
]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds the data set; overrides data.root.")]
Out = Annotated[str, typer.Option(help="Folder of the runs, or s3://bucket/prefix, gs://bucket/prefix.")]
Classes = Annotated[
    str | None,
    typer.Option(
        help="Only these classes, separated by commas; a name that holds one in double quotes: 'cat,\"a, b\"'."
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda. Default: cuda where there is one.")]
MaxHours = Annotated[
    float | None,
    typer.Option(help="Start nothing that would not end within so many hours from now; overrides max_hours."),
]
Format = Annotated[
    Literal["text", "json"], typer.Option("--format", help="json: a summary on stdout, all else on stderr.")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to join: auto (the one this machine is part of), HOST:PORT, or from elsewhere, through Ray "
        "Client, ray://HOST:10001; paths are the cluster's then. Default: none."
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a missing data set, where there is internet.")]


def listed_classes(text: str | None) -> tuple[str, ...] | None:
    """The names that `Classes` holds; None: all classes.

    Raises:
        SpaceError: a line break, a quotation mark that is not closed.
    """
    if not text:
        return None
    try:
        (line,) = filter(None, text.splitlines())
        (names,) = csv.reader([line], strict=True)
    except (ValueError, csv.Error):
        rule = "must be names on one line, separated by commas, in double quotes where they hold one"
        raise SpaceError(f"--classes: {rule}, got {text!r}") from None
    return tuple(names)


def command_line() -> str:
    """What the user typed, to be shown and recorded: without the password that a URL may hold."""
    return shlex.join(["gcc-search", *map(without_password, sys.argv[1:])])


def table_width() -> int | None:
    """A pipe has no width of its own, and the tables need more than the 80 that rich takes it for."""
    return None if sys.stdout.isatty() else PIPE_WIDTH
