"""Text that goes to a terminal: what a name holds must neither move its cursor nor look like a line of ours."""

from __future__ import annotations


def printable(text: str, *, kept: str = "") -> str:
    """`text` with line breaks, escapes and other unprintable characters as Python writes them, but those `kept`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in kept else repr(char)[1:-1] for char in text)


def shortened(text: str, most: int) -> str:
    """`text` of at most so many characters more than its `...`: of a longer one the first and the last."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
