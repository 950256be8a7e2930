"""What tells rows of the best trials apart beyond network, alpha, beta and p, in a few letters for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gcc_search.analysis.best import Row

# Of these the value alone says which parameter it is of.
NAMED_BY_VALUE = ("distance",)


def say_varied(rows: Sequence[Row]) -> list[str]:
    """`seed 1, correlation` for each row: what takes more than one value among them; no text at all where nothing does.

    What is told in fewest letters comes first: where the end is cut off, most is left. `-` for a row that has none of
    it, as a baseline has no distance.
    """
    told = [_words(row) for row in rows]
    values = {name: {words[name] for words in told if name in words} for words in told for name in words}
    varied = [name for name in sorted(values) if len(values[name]) > 1]
    varied.sort(key=lambda name: max(map(len, values[name])))
    return [", ".join(words[name] for name in varied if name in words) or "-" for words in told] if varied else []


def _words(row: Row) -> dict[str, str]:
    return {name: _word(name, value) for name, value in (row.own | row.sampled).items()}


def _word(name: str, value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if name in NAMED_BY_VALUE else f"{name} {text}"
