"""`gcc-search analyze RUN`: reads a run directory, computes, and writes its analysis/ folder.

Works while the search still runs: trials under way are counted and not scored. Everything below analysis/ can be
deleted and made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gcc_search.analysis.files import write_files
from gcc_search.analysis.findings import Findings, find
from gcc_search.analysis.printing import print_findings
from gcc_search.results.reader import read_run


@dataclass(frozen=True, kw_only=True)
class Analysis(Findings):
    """What `analyze` found, and the files it wrote, in the order a reader would open them."""

    files: tuple[Path, ...]


def analyze(folder: Path) -> Analysis:
    """The run's findings, computed and written to `folder`/analysis.

    Raises:
        ResultsError: no run directory, no finished trial, or a scored trial without its baseline.
    """
    findings = find(read_run(folder))
    return Analysis(**vars(findings), files=write_files(folder / "analysis", findings))


def print_analysis(analysis: Analysis, console: Console) -> None:
    """What was read, the tables, what was refused, and where the files are."""
    print_findings(analysis, analysis.files, console)
