"""Space files that nobody would write: bytes, text that looks like YAML, and shipped files with something wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

SHIPPED = [
    yaml.safe_load(path.read_text()) for path in sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
]

PATHS = ("../x", "/abs", "a/../../b", "..", ".", "~", "a\x00b", "a/b", "C:\\x", "", " ", "-rf", "a" * 65, "é", "$(ls)")
NUMBERS = (0, -1, 1, 2**63, 10**400, -(10**400), 1e308, 1e-320, float("inf"), float("-inf"), float("nan"), 1e-6, 0.5)

odd_values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(PATHS),
    st.sampled_from(NUMBERS),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.just("x" * 5_000),
    st.builds(list),
    st.builds(dict),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)

CHANGES = ("replace", "delete", "add", "wrap", "copy")


@st.composite
def changed(draw: st.DrawFn, sound: Any, *, most: int = 3, values: st.SearchStrategy[Any] = odd_values) -> Any:
    """`sound`, a tree of mappings and lists, with up to `most` places in it replaced, deleted, added to or wrapped."""
    content = {"root": copy.deepcopy(sound)}
    for _ in range(draw(st.integers(1, most))):
        parent, key = draw(st.sampled_from(_places(content)))
        change = draw(st.sampled_from(CHANGES))
        if change == "delete" and parent is not content:
            del parent[key]
        elif change == "add" and isinstance(parent[key], dict):
            parent[key][draw(st.text(max_size=10))] = draw(values)
        elif change == "add" and isinstance(parent[key], list):
            parent[key].append(draw(values))
        elif change == "wrap":
            parent[key] = draw(st.sampled_from(([parent[key]], {"a": parent[key]})))
        elif change == "copy":
            other, name = draw(st.sampled_from(_places(content)))
            parent[key] = copy.deepcopy(other[name])
        else:
            parent[key] = draw(values)
    return content["root"]


def _places(content: Any) -> list[tuple[Any, Any]]:
    """(container, key or index) of everything in a tree, the outermost first."""
    found: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        inner = waiting.pop(0)
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        found += [(inner, key) for key in keys]
        waiting += [inner[key] for key in keys if isinstance(inner[key], dict | list)]
    return found


@st.composite
def _changed_file(draw: st.DrawFn) -> bytes:
    content = draw(changed(draw(st.sampled_from(SHIPPED))))
    text = yaml.safe_dump(content, allow_unicode=draw(st.booleans()), sort_keys=False)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def _changed_text(draw: st.DrawFn) -> bytes:
    """A shipped file with lines repeated, dropped, or cut, or with bytes put in."""
    text = yaml.safe_dump(draw(st.sampled_from(SHIPPED))).encode()
    place = draw(st.integers(0, len(text)))
    what = draw(st.sampled_from(("cut", "repeat", "insert", "flip")))
    if what == "cut":
        return text[:place]
    if what == "repeat":
        return text + text[:place]
    if what == "insert":
        return text[:place] + draw(st.binary(max_size=8)) + text[place:]
    return (
        text[:place]
        + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in text[place : place + 1])
        + text[place + 1 :]
    )


def _bomb(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, depth)]
    return "\n".join(lines)


BOMBS = st.sampled_from(
    [
        _bomb(9),
        "a: &a [*a]",
        "[" * 50_000,
        "{a: " * 5_000,
        "- " * 5_000,
        "a: !!python/object/apply:os.system [ls]",
        "a: !!python/name:os.system",
        "!!binary x",
        "a: " + "9" * 5_000,
        "a: 0x" + "f" * 20_000,
        "a: 1" + ":59" * 2_000,
        "a: " + "1_" * 20_000 + "1",
        "? " * 500,
        "<<: {a: 1}",
        "a: 2020-13-45",
        "%YAML 9.9\n---\na: 1",
        "a: |\n" + " x\n" * 20_000,
    ]
).map(str.encode)

YAML_WORDS = st.lists(
    st.sampled_from(
        ["a", ":", " ", "\n", "- ", "[", "]", "{", "}", "&x", "*x", "!!str", "'", '"', "|", ">", "#", "?", ",", "%"]
    ),
    max_size=30,
).map(lambda words: "".join(words).encode())

# Bombs are few and slow: one input in fifty.
space_bytes = st.integers(0, 49).flatmap(
    lambda draw: BOMBS if draw == 0 else YAML_WORDS if draw < 8 else _changed_text() if draw < 18 else _changed_file()
) | st.binary(max_size=200)
