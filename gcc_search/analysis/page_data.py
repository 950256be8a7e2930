"""What the interactive part of report.html is given, as plain values; the page's script draws and sorts, no more."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps

from gcc_search.analysis.findings import Findings
from gcc_search.analysis.gallery import Album, KeptImage, KeptMaps
from gcc_search.analysis.listing import list_baselines, list_trials
from gcc_search.analysis.origins import trace
from gcc_search.analysis.overlay import COLOURS, OPACITY
from gcc_search.results.schema import Direction


@dataclass(frozen=True, kw_only=True)
class PageColumn:
    """A column of the page's table of trials, and where numeric an axis of its figure.

    Args:
        title: in full. untold: a value that is not worth a column, where all rows have it.
    """

    field: str
    heading: str
    title: str
    digits: int | None = None
    better: Direction = "none"
    untold: float | None = None


COLUMNS = (
    PageColumn(field="trial", heading="trial", title="folder below trials/"),
    PageColumn(field="network", heading="network", title="network"),
    PageColumn(field="status", heading="status", title="how the trial ended"),
    PageColumn(field="on_frontier", heading="frontier", title="on the frontier"),
    PageColumn(field="alpha", heading="alpha", title="alpha, weight of the consistency loss", digits=-3),
    PageColumn(field="beta", heading="beta", title="beta, weight of the sparsity loss", digits=-3),
    PageColumn(field="p", heading="p", title="p, order of the sparsity norm", digits=2),
    PageColumn(field="distance", heading="distance", title="distance of the consistency loss"),
    PageColumn(
        field="validation.corrected_consistency", heading="C* val", title="C*, validation split", digits=3, better="up"
    ),
    PageColumn(
        field="validation.gini", heading="Gini val", title="Gini index, validation split", digits=3, better="up"
    ),
    PageColumn(
        field="validation.accuracy_points",
        heading="accuracy val",
        title="accuracy, validation split, points",
        digits=2,
        better="up",
    ),
    PageColumn(
        field="test.accuracy_points", heading="accuracy", title="accuracy, test split, points", digits=2, better="up"
    ),
    PageColumn(
        field="tradeoff_points",
        heading="lost",
        title="accuracy tradeoff, points lost on the test split",
        digits=2,
        better="down",
    ),
    PageColumn(
        field="test.consistency", heading="consistency", title="consistency (SSIM), test split", digits=3, better="up"
    ),
    PageColumn(field="test.corrected_consistency", heading="C*", title="C*, test split", digits=3, better="up"),
    PageColumn(
        field="test.degenerate_fraction",
        heading="constant",
        title="share of constant maps, test split",
        digits=3,
        better="down",
        untold=0.0,
    ),
    PageColumn(field="test.gini", heading="Gini", title="Gini index, test split", digits=3, better="up"),
    PageColumn(field="test.iauc", heading="IAUC", title="insertion AUC, test split", digits=3, better="up"),
    PageColumn(field="test.dauc", heading="DAUC", title="deletion AUC, test split", digits=3, better="down"),
    PageColumn(
        field="test.box_mass", heading="box mass", title="map's mass on the object, test split", digits=3, better="up"
    ),
)
MORE = ("baseline", "feasible", "reason", "directory", "command")


def page_data(findings: Findings) -> dict[str, Any]:
    """Everything of the page's script, ready for JSON."""
    trials = trace(list_trials(findings.records, findings.pairs, findings.frontier), findings.origins)
    baselines = trace(list_baselines(findings.pairs), findings.origins)
    sampled = sorted({name for row in trials for name in row if name.startswith("sampled.")})
    named = {column.field for column in COLUMNS}
    further = [name for name in sampled if name.removeprefix("sampled.") not in named]
    columns = [*COLUMNS, *(PageColumn(field=name, heading=name[8:], title=name[8:]) for name in further)]
    shown = [column for column in columns if _is_told(column, trials)]
    fields = [*(column.field for column in shown), *MORE]
    return {
        "columns": [vars(column) for column in shown],
        "fields": fields,
        "trials": _pick(trials, fields),
        "baselines": _pick(baselines, fields),
        "edge": list(findings.frontier.edge),
        "albums": [_album(album) for album in findings.gallery.albums],
        "album_of": findings.gallery.album_of,
        "heat": {"colours": _colour_table(COLOURS), "opacity": OPACITY},
        "accuracy_colours": _colour_table("cividis"),
    }


def _is_told(column: PageColumn, rows: Sequence[dict[str, Any]]) -> bool:
    return any(row.get(column.field) not in (None, column.untold) for row in rows)


def _pick(rows: Sequence[dict[str, Any]], fields: Sequence[str]) -> list[list[Any]]:
    return [[_short(row.get(name)) for name in fields] for row in rows]


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    # JSON has no NaN. Six digits are more than any screen shows, and half the size of the page.
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _album(album: Album) -> dict[str, Any]:
    return {
        "classes": list(album.classes),
        "images": [_image(image) for image in album.images],
        "maps": {trial: _maps(maps) for trial, maps in album.maps.items()},
    }


def _image(image: KeptImage) -> dict[str, Any]:
    return {
        "name": image.name,
        "label": image.label,
        "picture": _base64(image.picture),
        "crop": list(image.crop),
        "flipped": image.flipped,
    }


def _maps(maps: KeptMaps) -> dict[str, Any]:
    return {
        "side": maps.side,
        "cells": _base64(
            b"".join(_bytes_of(raw) for pair in zip(maps.maps, maps.moved_maps, strict=True) for raw in pair)
        ),
        "consistency": [_short(value) for value in maps.consistency],
        "predicted": list(maps.predicted),
        "confidence": [_short(value) for value in maps.confidence],
    }


def _bytes_of(raw: Sequence[float]) -> bytes:
    """A map at 256 levels of its own range: what a heatmap keeps of it."""
    values = np.array(raw)
    low, high = values.min(), values.max()
    # False for NaN too: a map that overflowed is shown empty.
    levels = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return (255 * levels).round().astype(np.uint8).tobytes()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _colour_table(name: str) -> str:
    """256 colours, three bytes each."""
    return _base64((colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes())
