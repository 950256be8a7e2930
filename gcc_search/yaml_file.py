"""YAML as people mean it: `1e-6` is a number, a key stands once, nothing is executed, nothing is huge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gcc_search.errors import SpaceError

# A space file is a page of text; more is a mistake or an attack.
MAX_BYTES = 1 << 20
MAX_DEPTH = 32


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads YAML 1.2 numbers, and refuses repeated keys, aliases and deep nesting."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "must not use aliases (*name)", event.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(
                None, None, f"must not nest deeper than {MAX_DEPTH}", self.peek_event().start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key must be text, got {key!r}", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'key "{key}" must stand once', key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# PyYAML follows YAML 1.1, where 1e-6 (no dot) is text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`.

    Raises:
        SpaceError: no such file, too large, not YAML, or no mapping.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SpaceError(f"{path}: must be under {MAX_BYTES >> 20} MiB, got {size >> 20} MiB; is it a space file?")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise SpaceError(f"{path}: must be a readable file, got: {error.strerror}; examples are in search_spaces/") from None
    except UnicodeDecodeError:
        raise SpaceError(f"{path}: must be UTF-8 text, got other bytes; is it a space file?") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise SpaceError(f"{path}: {_yaml_problem(error)}") from None
    if not isinstance(content, dict):
        raise SpaceError(f"{path}: must be a mapping of keys, got {type(content).__name__}; see search_spaces/")
    return content


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{line}must be YAML, got: {problem}; check the indentation and colons there"
