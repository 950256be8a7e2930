"""Run directories with something wrong in them, under checksums that are right: what is behind the checksum is met."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from gcc_search.results.schema import EPOCHS, IMAGES
from gcc_search.results.seal import sealed_parquet
from gcc_search.results.writer import checksum
from tests.analysis.conftest import RunBuilder
from tests.fuzz.space_files import changed

NAMES = ("id", "baseline", "network")


def make_run(folder: Path) -> Path:
    """A sound run with a trial of every status, enough of them for every statistic."""
    run = RunBuilder(folder)
    run.baseline("resnet18", accuracy=94.0)
    chance = random.Random(0)
    for number in range(12):
        alpha, beta = 10 ** chance.uniform(-2, 1), 10 ** chance.uniform(-2, 0)
        run.trial(
            f"resnet18-{number:04d}",
            accuracy=chance.uniform(93, 95),
            corrected=chance.uniform(0.2, 0.6),
            gini=chance.uniform(0.2, 0.6),
            alpha=alpha,
            beta=beta,
            sampled={"alpha": alpha, "beta": beta, "distance": chance.choice(["ssim", "correlation"])},
            status="finished" if number < 9 else ("collapsed", "diverged", "stopped")[number - 9],
        )
    return folder


def sealed_json(content: dict[str, Any]) -> bytes:
    """As `write_json` would write it, NaN and odd text included."""
    plain = json.loads(json.dumps(content))
    return json.dumps({**plain, "sha256": checksum(plain)}).encode()


@st.composite
def json_files(draw: st.DrawFn, sound: dict[str, Any]) -> bytes:
    """A record with something wrong in it, its checksum right; now and then bytes that are none."""
    kind = draw(st.sampled_from(("changed", "changed", "changed", "cut", "deep", "bytes")))
    if kind == "bytes":
        return draw(st.binary(max_size=100))
    if kind == "deep":
        return _nested(sound, levels=draw(st.integers(1, 3000)))
    whole = {key: value for key, value in sound.items() if key != "sha256"}
    if kind == "cut":
        text = sealed_json(whole)
        return text[: draw(st.integers(0, len(text)))]
    content = draw(changed(whole))
    return sealed_json(content) if isinstance(content, dict) else json.dumps(content).encode()


def _nested(sound: dict[str, Any], *, levels: int) -> bytes:
    """The record with a list of lists of lists in it. Its checksum is right where one can be computed at all."""
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    place = "settings" if "settings" in sound else "space"
    whole = {key: value for key, value in sound.items() if key != "sha256"} | {place: {**sound[place], "deep": deep}}
    try:
        return sealed_json(whole)
    except RecursionError:
        return b"[" * levels


def _without(table: pa.Table, chance: random.Random) -> pa.Table:
    return table.remove_column(chance.randrange(table.num_columns))


def _other_type(table: pa.Table, chance: random.Random) -> pa.Table:
    place = chance.randrange(table.num_columns)
    values = pa.array(["x"] * table.num_rows)
    return table.set_column(place, pa.field(table.schema.names[place], pa.string()), values)


def _other_values(table: pa.Table, chance: random.Random) -> pa.Table:
    """A column of numbers that no measurement gives."""
    places = [place for place, field in enumerate(table.schema) if pa.types.is_floating(field.type)]
    place, odd = chance.choice(places), [float("nan"), float("inf"), -1e300, 1e300, 0.0, -5.0]
    field = table.schema.field(place)
    values = pa.array([chance.choice(odd) for _ in range(table.num_rows)], field.type)
    return table.set_column(place, field, values)


def _other_whole_numbers(table: pa.Table, chance: random.Random) -> pa.Table:
    places = [place for place, field in enumerate(table.schema) if pa.types.is_integer(field.type)]
    place, odd = chance.choice(places), [0, -1, 2**62, -(2**63), 7]
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array([chance.choice(odd) for _ in range(table.num_rows)], field.type))


def _nulls(table: pa.Table, chance: random.Random) -> pa.Table:
    place = chance.randrange(table.num_columns)
    field = table.schema.field(place)
    return table.set_column(place, field.with_nullable(True), pa.nulls(table.num_rows, field.type))


def _no_rows(table: pa.Table, chance: random.Random) -> pa.Table:
    return table.slice(0, 0)


def _repeated(table: pa.Table, chance: random.Random) -> pa.Table:
    return pa.concat_tables([table] * chance.randint(2, 50))


def _no_metadata(table: pa.Table, chance: random.Random) -> pa.Table:
    return table.replace_schema_metadata(chance.choice([None, {"gcc_search.schema_version": "x"}]))


TABLE_CHANGES: tuple[Callable[[pa.Table, random.Random], pa.Table], ...] = (
    _without,
    _other_type,
    _other_values,
    _other_whole_numbers,
    _nulls,
    _no_rows,
    _repeated,
    _no_metadata,
)


@st.composite
def table_files(draw: st.DrawFn, sound: pa.Table) -> bytes:
    """A Parquet file with something wrong in it, its seal right; now and then bytes that are none."""
    kind = draw(st.sampled_from(("changed", "changed", "changed", "torn", "bytes")))
    if kind == "bytes":
        return draw(st.binary(max_size=100)) + draw(st.sampled_from([b"", b"gcc_search.sha256=", b"PAR1"]))
    chance = random.Random(draw(st.integers(0, 2**32)))
    table = sound
    for change in draw(st.lists(st.sampled_from(TABLE_CHANGES), min_size=kind == "changed", max_size=2)):
        if table.num_columns > 3:
            table = _applied(change, table, chance)
    content = sealed_parquet(table)
    if kind == "torn":
        place = chance.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    return content


def _applied(change: Callable[[pa.Table, random.Random], pa.Table], table: pa.Table, chance: random.Random) -> pa.Table:
    # A change may ask for a column that the one before it took away.
    try:
        return change(table, chance)
    except (IndexError, pa.ArrowException):
        return table


SCHEMAS = {"epochs.parquet": EPOCHS, "images.parquet": IMAGES}
