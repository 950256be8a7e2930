"""Command lines in cluster files: where they stand, what they call, and whether the programs' own parsers take them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer

from gcc_search.cli import app

ROOT = Path(__file__).parents[2]


def header_commands(text: str) -> list[str]:
    """The lines of the leading comment that are to be typed: those indented by three spaces."""
    header = text.split("\n\n", 1)[0] if "\n\n" in text else text
    return [line[4:] for line in header.splitlines() if line.startswith("#   ") and line[4] != " "]


def bash_complaints(script: str) -> list[str]:
    """What `bash -n` says of a script; it runs nothing."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    return [f"bash: {line}" for line in done.stderr.splitlines()]


def shellcheck(script: str) -> str:
    """What shellcheck says; it comes with the packages for development and lies beside Python."""
    program = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([program, "--shell=bash", "-"], input=script, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def calls(script: str, program: str) -> list[list[str]]:
    """The arguments of each call of `program`, also after `--`, `exec` or `srun` and within a quoted argument."""
    found = []
    for command in simple_commands(script):
        for place, word in enumerate(command):
            before = [other for other in command[:place] if not other.startswith("--") or other == "--"]
            if word == program and (before[-1:] in ([], ["--"], ["exec"]) or before == ["srun"]):
                found.append(command[place + 1 :])
            elif word.startswith(f"{program} "):
                found += calls(word, program)
    return found


def simple_commands(script: str) -> Iterator[list[str]]:
    """Words between operators, line by line; lines that end in a backslash go on."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set("();<>|&"):
                yield words
                words = []
            else:
                words.append(word)


def gcc_search_complaints(script: str) -> list[str]:
    """What the real command line says of each call, variables being 1."""
    said = []
    for arguments in calls(script, "gcc-search"):
        name, *rest = [re.sub(r"\$\{?\w+\}?", "1", argument) for argument in arguments]
        if name.startswith("-"):
            name, rest = "search", [name, *rest]
        command = commands_of_gcc_search().get(name)
        if command is None:
            said.append(f"gcc-search: no command {name}")
            continue
        said += [f"gcc-search {name}: {line}" for line in parse(command, name, rest)]
    return said


def commands_of_gcc_search() -> dict[str, click.Command]:
    return typer.main.get_command(app).commands


def parse(command: click.Command, name: str, arguments: list[str]) -> list[str]:
    """What the command's own parser says; nothing is run."""
    try:
        command.make_context(name, list(arguments))
    except Exception as error:  # typer brings a click of its own, and its errors are others.
        return [getattr(error, "message", None) or f"{type(error).__name__}: {error}"]
    return []


def ray_complaints(script: str) -> list[str]:
    """What Ray's own command line says of each call, variables being 1."""
    from ray.scripts.scripts import cli

    said = []
    for arguments in calls(script, "ray"):
        name, *rest = [re.sub(r"\$\{?\w+\}?", "1", argument) for argument in arguments]
        command = cli.commands.get(name)
        if command is None:
            said.append(f"ray: no command {name}")
            continue
        said += [f"ray {name}: {line}" for line in parse(command, name, rest)]
        if name == "symmetric-run" and "--" in rest:
            said += start_complaints(cli.commands["start"], rest[: rest.index("--")])
    return said


def start_complaints(start: click.Command, arguments: list[str]) -> list[str]:
    """What `ray start` says of the options that symmetric-run hands on, to the head and to the other nodes alike."""
    handed_on = list(arguments)
    if "--min-nodes" in handed_on:
        place = handed_on.index("--min-nodes")
        del handed_on[place : place + 2]
    said = [f"ray start: {line}" for line in parse(start, "start", handed_on)]
    only_head = [word for word in handed_on if word.split("=")[0] in ("--head", "--port", "--include-dashboard")]
    return said + [f"ray start: {word} is for a head alone, the other nodes end at it" for word in only_head]
