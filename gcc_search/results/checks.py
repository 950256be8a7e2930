"""Whether a record says what gcc-search writes. A checksum proves that a file is whole, not who wrote it."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gcc_search.results.schema import RunRecord, TrialRecord

# Folder names below a run: neither a path nor a hidden file.
NAME = re.compile(r"[^./\\$\x00-\x1f\x7f][^/\\$\x00-\x1f\x7f]{0,127}")
# As in settings.py. Statistics square values and divide them; beyond this they overflow.
LARGEST = 1e100
# What stands in a figure or a table: matplotlib reads $ as formulas.
_TEXT = re.compile(r"[^\x00-\x1f\x7f$\\]{0,500}")


def complain(record: RunRecord | TrialRecord) -> str | None:
    """The first thing that is wrong, as `field: must be <rule>, got <value>`; None for a sound record."""
    try:
        # From JSON, where pydantic takes a mapping for a dataclass and strictly nothing else than the field's type.
        _adapters()[type(record)].validate_json(json.dumps(asdict(record)), strict=True)
        return next(_trial_problems(record) if isinstance(record, TrialRecord) else _run_problems(record), None)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{shown(place)}: must be as gcc-search writes it, got {shown(first['input'])}"
    except RecursionError:
        return "must be a few levels deep, got hundreds"


@functools.cache
def _adapters() -> dict[type, TypeAdapter[Any]]:
    return {kind: TypeAdapter(kind) for kind in (RunRecord, TrialRecord)}


def _trial_problems(record: TrialRecord) -> Iterator[str]:
    names = {"id": record.id, "network": record.network}
    if record.baseline is not None:
        names["baseline"] = record.baseline
    for field, name in names.items():
        if not NAME.fullmatch(name):
            yield f"{field}: must be a plain name without slashes, got {shown(name)}"
    for field in ("device_seconds", "epochs_done", "attempts", "baseline_epochs"):
        if (getattr(record, field) or 0) < 0:
            yield f"{field}: must be at least 0, got {getattr(record, field)}"
    for field in ("settings", "sampled", "validation", "test", "device_seconds", "epochs_done", "attempts"):
        yield from _number_problems(field, getattr(record, field))
    for name, value in record.sampled.items():
        if not isinstance(value, bool | int | float | str) or not _is_text(name) or not _is_text(value):
            yield f"sampled.{shown(name)}: must be a number, text, true or false, got {shown(value)}"
    yield from _settings_problems(record.settings)


def _settings_problems(settings: dict[str, Any]) -> Iterator[str]:
    wanted: tuple[tuple[str, str, tuple[type, ...]], ...] = (
        *(("explanation", name, (int, float)) for name in ("alpha", "beta", "p")),
        ("explanation", "distance", (str,)),
        ("data", "name", (str,)),
    )
    for section, name, kinds in wanted:
        inner = settings.get(section)
        value = inner.get(name) if isinstance(inner, dict) else None
        if not isinstance(value, kinds) or isinstance(value, bool) or not _is_text(value):
            yield f"settings.{section}.{name}: must be what the trial was trained with, got {shown(value)}"
    seed = settings.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        yield f"settings.seed: must be what the trial was trained with, got {shown(seed)}"


def _run_problems(record: RunRecord) -> Iterator[str]:
    if not _is_text(record.name):
        yield f"name: must be a line of plain text, got {shown(record.name)}"
    for place, images in enumerate(record.data):
        if not isinstance(images.get("image_size"), int):
            yield f"data.{place}.image_size: must be a whole number, got {shown(images.get('image_size'))}"
        for name in ("name", "fingerprint"):
            if not isinstance(images.get(name), str):
                yield f"data.{place}.{name}: must be text, got {shown(images.get(name))}"
    yield from _number_problems("space", record.space)
    yield from _number_problems("packing", record.packing)


def _number_problems(place: str, value: object) -> Iterator[str]:
    """Numbers within `value` that no measurement and no setting can be."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _number_problems(f"{place}.{name}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _number_problems(f"{place}.{number}", inner)
    elif isinstance(value, int | float) and not _is_usual(value):
        yield f"{shown(place)}: must be a number of usual size, got {shown(value)}"


def _is_usual(value: float) -> bool:
    return abs(value) <= LARGEST and math.isfinite(value)


def _is_text(value: object) -> bool:
    return not isinstance(value, str) or _TEXT.fullmatch(value) is not None


def shown(value: object) -> str:
    """`value` on one line, cut to a few words, without what a terminal would act on."""
    text = value if isinstance(value, str) else repr(value)
    return "".join(char if char.isprintable() else "?" for char in text[:60])
