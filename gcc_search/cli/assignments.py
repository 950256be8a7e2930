"""`--set NAME=VALUE`: any setting, by its name in a space file, without a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gcc_search.errors import SpaceError
from gcc_search.objectives import closest
from gcc_search.space import group_of, parameter_names, put_setting
from gcc_search.yaml_file import one_line, read_value

SECTIONS = ("data", "recipe", "explanation", "evaluation", "collapse")


def assign(content: dict[str, Any], assignments: Sequence[str], *, options: Mapping[str, str]) -> None:
    """Puts each of `NAME=VALUE` into `content`, a trial's settings before they are checked.

    Args:
        options: which settings have an option of their own, by their dotted name.

    Raises:
        SpaceError: one that does not read so, comes twice, or has an option of its own.
    """
    seen: set[str] = set()
    for text in assignments:
        name, sign, value = text.partition("=")
        group = group_of(name)
        dotted = name if group is None else f"{group}.{name}"
        if not sign or not name:
            raise SpaceError(one_line(f"--set: must read NAME=VALUE, as in --set sparsity=paper, got {text!r}"))
        if dotted in options:
            raise SpaceError(f"--set: {name} must be given by its own option, {options[dotted]}")
        section, _, last = dotted.rpartition(".")
        if section not in SECTIONS:
            rule = f"{name} must be a setting, or SECTION.NAME with one of {', '.join(SECTIONS)}"
            raise SpaceError(one_line(f"--set: {rule}; {closest(last, parameter_names())}"))
        if dotted in seen:
            raise SpaceError(one_line(f"--set: {name} must be given once, got it again; leave one out"))
        seen.add(dotted)
        put_setting(content, dotted, read_value(value, where=f"--set {name}"))
