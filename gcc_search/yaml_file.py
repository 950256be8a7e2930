"""YAML as people mean it: `1e-6` is a number, a key stands once, nothing is executed, nothing is huge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gcc_search.errors import SpaceError
from gcc_search.letters import printable, shortened

# A space file is a page of text; more is a mistake or an attack.
MAX_BYTES = 1 << 20
MAX_DEPTH = 32
# Longer ones are no number that anything here counts, and Python takes seconds over millions of digits.
MAX_DIGITS = 40
# A message is read on a terminal: a key that fills the screen hides the rule. Ours are 400 characters, paths some more.
MAX_MESSAGE = 1000


class _Refused(yaml.MarkedYAMLError):
    """YAML, but not of the kind that a space file may hold."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads YAML 1.2 numbers, and refuses repeated keys, aliases, tags and deep nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases (*name) must not be used; write the values out", event)
        if getattr(event, "tag", None) is not None:
            raise _refused("tags (!name) must not be used; write the value alone", event)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refused(f"keys must not nest deeper than {MAX_DEPTH}; is it a space file?", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key_node.tag != "tag:yaml.org,2002:str":
                raise _refused("a key must be text, got something else; put it in quotes", key_node)
            if key in seen:
                raise _refused(f'key "{key}" must stand once, got it again; remove one', key_node)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_short_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise _refused(f"a whole number must have at most {MAX_DIGITS} digits; write it as 1e50", node)
        return int(self.construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_short_int)

# PyYAML follows YAML 1.1: there 1:30 is 90, 010 is 8, no is false, and 1e-6 (no dot) and -.5 (no digit before it) are
# text. Here a number is what everybody reads as that number; the others are text, which a number's rule refuses.
_OWN_READING = {
    "bool": (r"(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"([-+]?(0|[1-9]\d*)|0x[0-9a-fA-F]+)$", "-+0123456789"),
    "float": (
        r"[-+]?(\d+[eE][-+]?\d+|(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        "-+.0123456789",
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in _OWN_READING]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_pattern, _firsts) in _OWN_READING.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern, re.ASCII), list(_firsts))


def as_yaml(content: dict[str, Any]) -> str:
    """Text that `read_yaml` reads as `content`, keys in their order, what has no further level on one line."""
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`.

    Raises:
        SpaceError: no such file, too large, not YAML, or no mapping; one line.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise SpaceError(f"{path}: must be at most {MAX_BYTES >> 20} MiB, got more; is it a space file?")
        content = yaml.load(text.decode(), Loader=_Loader)
    except OSError as error:
        reason = error.strerror
        raise SpaceError(f"{path}: must be a readable file, got: {reason}; examples are in search_spaces/") from None
    except UnicodeDecodeError:
        raise SpaceError(f"{path}: must be UTF-8 text, got other bytes; is it a space file?") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SpaceError(one_line(f"{path}: {_problem(error)}")) from None
    if not isinstance(content, dict):
        got = "nothing" if content is None else "a list" if isinstance(content, list) else "a single value"
        raise SpaceError(f"{path}: must be keys with values, got {got}; examples are in search_spaces/")
    return content


def read_value(text: str, *, where: str) -> Any:
    """One value, as it would stand behind a key.

    Raises:
        SpaceError: nothing, or not YAML; one line, which begins with `where`.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise SpaceError(one_line(f"{where}: {_problem(error)}")) from None
    if value is None:
        raise SpaceError(one_line(f"{where}: must be a value, got {text!r}"))
    return value


def one_line(message: str) -> str:
    """`message` with line breaks and other unprintable characters escaped, and without the middle of an endless one."""
    return printable(shortened(message, MAX_MESSAGE))


def _refused(rule: str, place: yaml.Event | yaml.Node) -> _Refused:
    return _Refused(problem=rule, problem_mark=place.start_mark)  # type: ignore[arg-type]


def _problem(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        # The first line of the reader's and of Python's own complaints says it all.
        return f"must be YAML, got: {str(error).splitlines()[0]}"
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    if isinstance(error, _Refused):
        return f"{line}{error.problem}"
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return f"{line}must be YAML, got: {said}; check the indentation, colons and quotes there"
