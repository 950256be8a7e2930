"""Names go to a terminal as letters alone."""

from __future__ import annotations

import io

from rich.console import Console

from gcc_search.letters import printable, shortened
from gcc_search.saying import say


def test_what_is_no_letter_is_escaped():
    assert printable("a\nb\x1b[31m\u202e\udce9 é↑") == "a\\nb\\x1b[31m\\u202e\\udce9 é↑"
    assert printable("a\nb\r", kept="\n") == "a\nb\\r"


def test_of_what_is_long_both_ends_are_told():
    assert shortened("a" * 10, 10) == "a" * 10
    assert shortened("a" * 50 + "b" * 50, 10) == "aaaaa ... bbbbb"


def test_a_name_moves_no_cursor():
    console = Console(file=io.StringIO(), width=20)
    say(console, "a\n\x1b[2Jname \x07")
    assert console.file.getvalue() == "a\n\\x1b[2Jname \\x07\n"
