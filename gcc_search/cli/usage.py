"""What is wrong with the words of a command, on one line as every other mistake; typer has a box and exit code 2."""

from __future__ import annotations

import re
from typing import Any

from typer.exceptions import TyperException

# What pydantic and typer say of a value, and how it is said here.
_WORDS = (
    (re.compile(r"^Input should be "), "must be "),
    (re.compile(r", unable to parse .*"), ""),
    (re.compile(r"^Value error, ('.*' is not (?=one of))?"), "must be "),
)
_NO_COMMAND = re.compile(r"^No such command '(.*?)'\.?(?: Did you mean '(.*?)'\?)?")


def told(error: TyperException, invoked: str | None) -> str:
    """`option: what is wrong, got value; see gcc-search COMMAND --help`. `invoked`: the command, where it is known."""
    context = getattr(error, "ctx", None)
    command = invoked if context is None or context.parent is None else context.info_name
    return f"{_problem(error)}; see {' '.join(filter(None, ('gcc-search', command)))} --help"


def _problem(error: TyperException) -> str:
    parameter, option = getattr(error, "param", None), getattr(error, "option_name", None)
    words = error.message.strip().rstrip(".")
    for theirs, ours in _WORDS:
        words = theirs.sub(ours, words)
    if parameter is not None:
        return f"{_name(parameter)}: {words or 'must be given, got nothing'}{_got(error)}"
    near = getattr(error, "possibilities", None)
    if option is not None and near is not None:
        advice = f"; did you mean {' or '.join(sorted(near))}?" if near else ""
        return f"{option}: must be an option that there is{advice}"
    if option is not None:
        return f"{option}: must be given a value, got none"
    if (unknown := _NO_COMMAND.match(words)) is not None:
        near = f"; did you mean {unknown[2]}?" if unknown[2] else ""
        return f"{unknown[1]}: must be a command that there is{near}"
    return words


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.name).upper()


def _got(error: BaseException) -> str:
    """The value that pydantic refused; nothing where something else did."""
    refusal = error.__cause__ or error.__context__
    found = getattr(refusal, "errors", None)
    values = [item["input"] for item in found()] if callable(found) else []
    return f", got {values[0]}" if values else ""
