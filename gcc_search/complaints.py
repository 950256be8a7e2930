"""pydantic's complaints about settings in our own words: one line, `field: rule, got value; way out`."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gcc_search.objectives import closest
from gcc_search.settings import Settings


def explain_error(error: ValidationError, model: type[Settings]) -> str:
    """The first of pydantic's complaints as `field: rule, got value`, with the nearest known key for a misspelt one."""
    first, *rest = error.errors(include_url=False)
    place = _place(first)
    others = {_place(item) for item in rest if not place.startswith(_place(item))}
    told = f" (and {len(others)} more to mend)" if others else ""
    told_first = f"{explain_complaint(first, model)}{told}"
    return f"{place}: {told_first}" if place else told_first


def explain_record(error: ValidationError, model: type[Settings]) -> str:
    """The same of what a run holds, with the way out: nobody has misspelt it."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "unknown_network":
        rule = f"must come with a package that is installed, got {shown(first['input'])}"
        return f"{_place(first)}: {rule}; install the one that versions names"
    return f"{explain_error(error, model)}; read it with the gcc-search that wrote it"


def _place(complaint: ErrorDetails) -> str:
    parts = [str(part) for part in complaint["loc"] if part != "[key]"]
    # pydantic names the branch of a union that it tried; people did not write that. Only `weights` is one.
    return ".".join(parts[:1] + parts[2:] if parts[:1] == ["weights"] else parts)


# Words that fit on a line.
MOST_LISTED = 10

_OWN_NETWORK = "one of your own comes with a package: see README"

# pydantic's types of error in the words of a space file.
_RULES = {
    "missing": "must be given; examples are in search_spaces/",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be finite",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be the path of a folder",
    "tuple_type": "must be a list, as in [a, b]",
    "dict_type": "must be keys with values, as in {{key: value}}",
    "model_type": "must be keys with values, as in {{key: value}}",
    "too_short": "must list at least one",
    "string_pattern_mismatch": "must be 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first",
}


def explain_complaint(complaint: ErrorDetails, model: type[Settings]) -> str:
    """One complaint without its place."""
    kind, value, context = complaint["type"], complaint["input"], complaint.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {closest(str(complaint['loc'][-1]), _fields_at(model, complaint['loc'][:-1]))}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return _RULES[kind]
    if kind == "literal_error":
        return _explain_unknown_word(value, context["expected"].replace("'", ""))
    if kind == "unknown_network":
        return _explain_unknown_word(value, context["expected"], or_else=_OWN_NETWORK)
    rule = _RULES[kind].format(**context) if kind in _RULES else complaint["msg"]
    advice = "; put it in quotes" if kind == "string_type" and isinstance(value, bool | int | float) else ""
    return f"{rule}, got {shown(value)}{advice}"


def _explain_unknown_word(value: object, known: str, *, or_else: str | None = None) -> str:
    """`known`: `a, b or c`; a long list is left out where one of it is near. `or_else`: the way out where none is."""
    names = tuple(known.replace(" or ", ", ").split(", "))
    near = closest(value, names) if isinstance(value, str) else ""
    if not near.startswith("did"):
        return f"must be {known}, got {shown(value)}" + (f"; {or_else}" if or_else else "")
    return f"must be {known if len(names) <= MOST_LISTED else f'one of {len(names)} names'}, got {shown(value)}; {near}"


def shown(value: object) -> str:
    """`value` as a space file would have it, cut to a few words."""
    text = str(value) if isinstance(value, float) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(model: type[Settings], location: tuple[int | str, ...]) -> tuple[str, ...]:
    for part in location:
        field = model.model_fields.get(str(part))
        model = (field and _settings_in(field.annotation)) or model
    return tuple(model.model_fields)


def _settings_in(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    found = (_settings_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((item for item in found if item is not None), None)
