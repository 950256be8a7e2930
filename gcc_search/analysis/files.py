"""The files of an analysis/ folder, as bytes by name: figures as PNG and SVG, their data beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gcc_search.analysis.against_paper import paper_columns, paper_effect_rows
from gcc_search.analysis.best import Row
from gcc_search.analysis.boundary import COUNTED
from gcc_search.analysis.boundary_figure import draw_boundary
from gcc_search.analysis.comparison import comparison_rows
from gcc_search.analysis.distribution_figure import CONSISTENCY_AXIS, draw_consistency
from gcc_search.analysis.effects import EFFECT_COLUMNS, EFFECTS_UNITS, effect_rows
from gcc_search.analysis.effects_figure import draw_effects
from gcc_search.analysis.figures import render
from gcc_search.analysis.findings import Findings
from gcc_search.analysis.frontier_figure import draw_frontier
from gcc_search.analysis.growth_figure import draw_growth
from gcc_search.analysis.heatmap_figure import draw_heatmaps
from gcc_search.analysis.importance import Importance
from gcc_search.analysis.importance_figure import draw_importance
from gcc_search.analysis.listing import explain_columns, list_trials
from gcc_search.analysis.origins import trace
from gcc_search.analysis.page import make_page
from gcc_search.analysis.stages import Tell, untold
from gcc_search.analysis.table import to_csv
from gcc_search.analysis.tradeoff_figure import AXIS, draw_tradeoff
from gcc_search.atomic import write_atomically
from gcc_search.results.writer import write_json

PAPER = "paper.json"
IMPORTANCE_COLUMNS = tuple(field.name for field in fields(Importance))


def write_files(folder: Path, findings: Findings, tell: Tell = untold) -> tuple[Path, ...]:
    """Replaces what `folder` has of these files; their paths, in the order a reader would open them."""
    drawn = _draw(findings, tell)
    vectors = {name.removesuffix(".svg"): content for name, content in drawn.items() if name.endswith(".svg")}
    contents = {"report.html": make_page(findings, vectors)} | drawn | _tabulate(findings)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    data = _figure_data(findings)
    # Of an earlier `--compare paper`: what lies here is this analysis.
    (folder / PAPER).unlink(missing_ok=True)
    for name, plain in data.items():
        write_json(folder / name, _origin(findings) | plain)
    return tuple(folder / name for name in (*contents, *data))


def _draw(findings: Findings, tell: Tell) -> dict[str, bytes]:
    record = findings.run
    title = f"Run {record.name}"
    told = f"run {record.name}, seed {record.seed}, made by: {record.command}, {json.dumps(record.versions)}"
    boxes, marks = ((), ()) if findings.paper is None else (findings.paper.tradeoffs, findings.paper.marks)
    figures: dict[str, Callable[[], Figure]] = {
        "frontier": lambda: draw_frontier(
            findings.frontier, bands=findings.bands, knee=findings.growth.knee, title=title
        ),
        "tradeoff": lambda: draw_tradeoff(findings.tradeoffs, paper=boxes, title=title),
        "consistency": lambda: draw_consistency(findings.consistencies, paper=marks, title=title),
        "effects": lambda: draw_effects(findings.effects, title=title),
        "boundary": lambda: draw_boundary(findings.boundary, title=title),
        "heatmaps": lambda: draw_heatmaps(findings.heatmap_grid, findings.gallery, title=title),
        "importance": lambda: draw_importance(findings.importance_panels, title=title),
        "growth": lambda: draw_growth(findings.growth, bands=findings.bands, title=title),
    }
    drawn = {}
    for number, (name, draw) in enumerate(figures.items()):
        tell("drawing figures", number, len(figures))
        drawn[name] = render(draw, title=title, description=told)
    tell("drawing figures", len(figures), len(figures))
    return {f"{name}.{suffix}": content for name, files in drawn.items() for suffix, content in files.items()}


def _tabulate(findings: Findings) -> dict[str, bytes]:
    return {
        "table1.csv": to_csv(_table_1(findings)),
        "effects.csv": to_csv(_effect_rows(findings), EFFECT_COLUMNS),
        "importance.csv": to_csv([asdict(item) for item in findings.importances], IMPORTANCE_COLUMNS),
        "best.csv": to_csv(trace(_flatten(findings.rows), findings.origins)),
        "trials.csv": to_csv(trace(list_trials(findings.records, findings.pairs, findings.frontier), findings.origins)),
        "columns.csv": to_csv(explain_columns()),
    }


def _table_1(findings: Findings) -> list[dict[str, Any]]:
    rows = comparison_rows(findings.comparisons)
    return rows if findings.paper is None else [row | paper_columns(row, findings.paper.lines) for row in rows]


def _effect_rows(findings: Findings) -> list[dict[str, Any]]:
    published = () if findings.paper is None else findings.paper.series
    empty = dict.fromkeys(EFFECT_COLUMNS)
    return [*effect_rows(findings.effects), *(empty | row for row in paper_effect_rows(published))]


def _flatten(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with a column `sampled.NAME` for each further parameter that the sampler chose."""
    names = sorted({name for row in rows for name in row.sampled})
    plain = [{key: value for key, value in asdict(row).items() if key not in ("sampled", "own")} for row in rows]
    return [
        p | {f"sampled.{name}": row.sampled.get(name) for name in names} for p, row in zip(plain, rows, strict=True)
    ]


def _origin(findings: Findings) -> dict[str, Any]:
    record = findings.run
    return {"run": record.name, "seed": record.seed, "command": record.command, "versions": record.versions}


def _figure_data(findings: Findings) -> dict[str, dict[str, Any]]:
    return {
        "frontier.json": _frontier_data(findings),
        "tradeoff.json": {"unit": AXIS, "networks": [asdict(item) for item in findings.tradeoffs]},
        "consistency.json": {"unit": CONSISTENCY_AXIS, "panels": [asdict(item) for item in findings.consistencies]},
        "effects.json": {"units": EFFECTS_UNITS, "effects": [asdict(item) for item in findings.effects]},
        "boundary.json": {"counted": COUNTED, "boundary": asdict(findings.boundary)},
        "growth.json": {"growth": asdict(findings.growth), "bands": asdict(findings.bands)},
        "heatmaps.json": {"rows": [asdict(row) for row in findings.heatmap_grid]},
    } | ({} if findings.paper is None else {PAPER: {"paper": asdict(findings.paper)}})


def _frontier_data(findings: Findings) -> dict[str, Any]:
    plain = asdict(findings.frontier)
    traced = {name: trace(plain[name], findings.origins, key="id") for name in ("points", "baselines")}
    return {"frontier": plain | traced, "knee": findings.growth.knee, "bands": asdict(findings.bands)}
