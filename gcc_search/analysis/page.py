"""report.html: everything of an analysis in one file that opens from disk, without a network.

The template and the script stand in `page_source/`; here they are given plain values. Nothing is computed that the
figures' data do not say already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from gcc_search import __version__
from gcc_search.analysis.against_paper import AgainstPaper
from gcc_search.analysis.comparison import RULE, Comparison
from gcc_search.analysis.comparison_table import HEADINGS, digits_of, line_cells, say_below, say_loss, say_seeds
from gcc_search.analysis.findings import Findings, say_counts
from gcc_search.analysis.frontier import say_none_feasible, say_ranking
from gcc_search.analysis.measures import FEWEST_IMAGES, Line, Verdict
from gcc_search.analysis.page_data import page_data
from gcc_search.analysis.seeds import INTERVAL, SeedSpread
from gcc_search.analysis.several import trial_directory
from gcc_search.analysis.telling import tell_bands, tell_boundary, tell_paper, tell_table_1_of_paper

SECTIONS = {
    "frontier": "frontier",
    "table1": "baseline against ours",
    "paper": "beside the paper",
    "consistency": "consistency",
    "tradeoff": "accuracy tradeoff",
    "effects": "effects",
    "heatmaps": "heatmaps",
    "boundary": "where training fails",
    "growth": "growth",
    "importance": "importance",
    "trials": "all trials",
    "provenance": "provenance",
}
DRAWN = ("frontier", "consistency", "tradeoff", "effects", "heatmaps", "boundary", "growth", "importance")
# What the figures are drawn with, and what the page's light and dark styles put in its place.
THEMED = {
    "#ffffff": "var(--paper)",
    "#000000": "var(--ink)",
    "#202020": "var(--ink)",
    "#404040": "var(--soft)",
    "#e5e5e5": "var(--grid)",
    "#ededed": "var(--box)",
}


def make_page(findings: Findings, figures: Mapping[str, bytes]) -> bytes:
    """The page. `figures`: SVG by name, drawn in the colours of `THEMED`."""
    page = files("gcc_search.analysis") / "page_source"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((page / "report.html.j2").read_text(encoding="utf-8"))
    text = template.render(
        css=(page / "report.css").read_text(encoding="utf-8"),
        script=(page / "report.js").read_text(encoding="utf-8"),
        data=_script_json(page_data(findings)),
        figures={name: inline_svg(name, figures[name]) for name in DRAWN},
        sections=[(name, text) for name, text in SECTIONS.items() if name != "paper" or findings.paper],
        run=findings.run,
        counts=f"{sum(findings.counts.values())} trials: {say_counts(findings.counts)}",
        none_feasible=say_none_feasible(findings.frontier),
        ranking=say_ranking(findings.frontier),
        constraints=findings.frontier.constraints,
        headlines=[_headline(item) for item in findings.comparisons],
        problems=findings.problems,
        rule=RULE,
        fewest_images=FEWEST_IMAGES,
        comparisons=[_comparison(item, findings.paper) for item in findings.comparisons],
        boundary_lines=tell_boundary(findings.boundary),
        growth_lines=tell_bands(findings.bands),
        paper_lines=tell_paper(findings.paper),
        without_heatmaps=findings.gallery.left_out,
        knee=trial_directory(findings.growth.knee) if findings.growth.knee else None,
        importances=findings.importances,
        provenance=_provenance(findings),
    )
    return text.encode()


def _script_json(content: Any) -> str:
    # "</script>" in a class name would end the script that holds it.
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def inline_svg(name: str, content: bytes) -> str:
    """A figure's SVG as part of a page: its colours those of the page's style, its ids its own."""
    text = content.decode()
    text = text[text.index("<svg") :]
    for colour, themed in THEMED.items():
        text = re.sub(rf"(fill|stroke): {colour}", rf"\1: {themed}", text, flags=re.IGNORECASE)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    # What says who made it stands in the page's own provenance, and its links lead out of the page.
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


def _headline(item: Comparison) -> str:
    """One sentence: what the chosen trial gains and costs, and whether the test split can tell."""
    lines = {line.measure: line for line in item.lines}
    told = [f"{words} {_change(lines[name])}" for name, words in _TOLD.items() if name in lines]
    return f"{item.network} on {item.data}, {trial_directory(item.trial)} against its baseline: {'; '.join(told)}."


_TOLD = {"top-1 accuracy": "accuracy"} | {name: name for name in ("C*", "constant maps", "Gini", "insertion AUC")}
_DOUBTS: dict[Verdict | None, str] = {
    "within noise": " (within the noise of the test images)",
    "too few images": " (too few test images to say)",
}


def _change(line: Line) -> str:
    digits = digits_of(line)
    told = f"{line.baseline:.{digits}f} → {line.trained:.{digits}f}"
    return told + _DOUBTS.get(line.verdict, "")


def _comparison(item: Comparison, paper: AgainstPaper | None) -> dict[str, Any]:
    return {
        "network": item.network,
        "data": item.data,
        "seed": item.seed,
        "baseline": item.baseline,
        "trial": trial_directory(item.trial),
        "settings": say_loss(item),
        "validated": f"{item.validation_corrected_consistency:.3f}",
        "headings": HEADINGS,
        "lines": [_line(line) for line in item.lines],
        "notes": [
            *say_below(item),
            *map(_spread, item.seeds),
            *tell_table_1_of_paper(paper, item),
        ],
    }


def _spread(spread: SeedSpread) -> str:
    return say_seeds(spread) if spread.low is None else f"{say_seeds(spread)}: {INTERVAL}"


def _line(line: Line) -> list[tuple[str, float | None]]:
    values = (None, line.baseline, line.trained, line.difference, line.low, line.num_images)
    return list(zip(line_cells(line), values, strict=True))


def _provenance(findings: Findings) -> Sequence[tuple[str, str]]:
    record = findings.run
    images = [
        f"{data['name']} at {data['image_size']} pixels, {len(data.get('classes', ()))} classes, {data['fingerprint']}"
        for data in record.data
    ]
    seeds = sorted({str(trial.settings["seed"]) for trial in findings.records})
    return (
        ("search", record.command),
        ("begun", f"{record.created} on {record.host}"),
        ("seeds", f"of the search: {record.seed}; of the trials: {', '.join(seeds)}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        *(("images, fingerprint", text) for text in images),
        ("report by", f"gcc-search {__version__}, gcc-search analyze"),
    )
