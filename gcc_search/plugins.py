"""Networks that other installed packages bring: entry points of the group `gcc_search.networks`. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gcc_search.errors import SpaceError

GROUP = "gcc_search.networks"
# Of a network, which is a part of folders' names.
NETWORK_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


@functools.cache
def brought_networks() -> dict[str, tuple[EntryPoint, ...]]:
    """Names of networks -> what brings them, one each unless packages are at odds. Nothing of theirs is imported."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        if NETWORK_PATTERN.fullmatch(entry.name) and EntryPoint.pattern.match(entry.value):
            # A package that is found twice, by way of two folders, is one.
            found.setdefault(entry.name, {}).setdefault(f"{_package(entry)} {entry.value}", entry)
    return {name: tuple(found[name].values()) for name in sorted(found)}


def is_misnamed(name: str) -> bool:
    """Whether a package brings a network of this name, which cannot be a part of a folder's."""
    return name in entry_points(group=GROUP).names and not NETWORK_PATTERN.fullmatch(name)


def bringers(name: str) -> tuple[str, ...]:
    """Names of the packages that bring a network of this name."""
    return tuple(_package(entry) for entry in brought_networks().get(name, ()))


def factory_of(name: str) -> Callable[[int], Any]:
    """What makes the network of so many classes.

    Raises:
        SpaceError: it cannot be imported.
    """
    entry = _entry(name)
    try:
        factory: Callable[[int], Any] = entry.load()
    except (Exception, SystemExit) as error:
        rule = f"networks: {name}: must be importable as {entry.value}, of the package {_package(entry)}"
        raise SpaceError(f"{rule}, got {line_of(error)}; mend it there") from error
    return factory


def import_line(name: str) -> tuple[str, str]:
    """Python that imports what `factory_of` gives, and its name from then on."""
    entry = _entry(name)
    first = entry.attr.partition(".")[0]
    return f"from {entry.module} import {first}", entry.attr


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Of the packages that bring these networks: version and code, which may change while the version stays."""
    entries = {_package(entry): entry for name in names for entry in brought_networks().get(name, ())}
    return {package: _version(entry) for package, entry in entries.items()}


def line_of(error: BaseException) -> str:
    """What went wrong in a package, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _entry(name: str) -> EntryPoint:
    (entry,) = brought_networks()[name]
    return entry


def _package(entry: EntryPoint) -> str:
    return entry.module.partition(".")[0] if entry.dist is None else entry.dist.name


@functools.cache
def _version(entry: EntryPoint) -> str:
    """Read once, as the code itself is: every trial records it."""
    number = "0" if entry.dist is None else entry.dist.version
    digest = hashlib.sha256()
    for module in sorted(_modules(entry)):
        for name, file in sorted(_code(module)):
            digest.update(f"{module} {name}\0".encode() + file.read_bytes() + b"\0")
    return f"{number} ({digest.hexdigest()[:8]})"


def _modules(entry: EntryPoint) -> set[str]:
    """The top-level modules of the package that brings it, as far as it tells: all may be part of the network."""
    found = {entry.module.partition(".")[0]}
    if entry.dist is not None:
        found |= {other.module.partition(".")[0] for other in entry.dist.entry_points.select(group=GROUP)}
        found |= {*(entry.dist.read_text("top_level.txt") or "").split()}
        parts = [file.parts for file in entry.dist.files or () if file.suffix == ".py"]
        found |= {part[0].removesuffix(".py") for part in parts}
    # What pip leaves for a package that is edited in place says where that is, on this machine.
    return {module for module in found if module.isidentifier() and not module.startswith("__editable__")}


def _code(module: str) -> Iterator[tuple[str, Path]]:
    """Files of a module or package, by their names within it."""
    spec = find_spec(module)
    if spec is None:
        return
    for folder in map(Path, spec.submodule_search_locations or ()):
        yield from ((str(file.relative_to(folder)), file) for file in folder.rglob("*.py") if file.is_file())
    if spec.origin is not None and not spec.submodule_search_locations and Path(spec.origin).is_file():
        yield "", Path(spec.origin)
