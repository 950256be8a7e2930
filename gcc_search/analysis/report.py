"""`gcc-search analyze RUN...`: reads run directories, computes, and writes an analysis/ folder.

Works while the search still runs: trials under way are counted and not scored. Everything below analysis/ can be
deleted and made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcc_search.analysis.against_paper import check_compare
from gcc_search.analysis.files import write_files
from gcc_search.analysis.findings import Findings, find
from gcc_search.analysis.several import read_runs
from gcc_search.analysis.stages import Tell, untold


@dataclass(frozen=True, kw_only=True)
class Analysis(Findings):
    """What `analyze` found, and the files it wrote, in the order a reader would open them."""

    files: tuple[Path, ...]


def analyze(
    runs: Path | Sequence[Path], out: Path | None = None, tell: Tell = untold, *, compare: str | None = None
) -> Analysis:
    """The findings of one run, or of several together, computed and written to `out`; `compare`: None or `paper`.

    Without `out`: to RUN/analysis for one run, to analysis-NAME+NAME beside the first of several. `tell` hears of each
    stage as it goes on.

    Raises:
        ResultsError: no run directory, no trial that trained to its end or failed to, a scored trial without its
            baseline, a run of `gcc-search train`, runs that cannot be compared, or another `compare`.
    """
    with_paper = check_compare(compare)
    folders = [runs] if isinstance(runs, Path) else list(runs)
    findings = find(read_runs(folders, tell), tell, with_paper=with_paper)
    return Analysis(**vars(findings), files=write_files(out or folder_for(folders), findings, tell))


def folder_for(folders: Sequence[Path]) -> Path:
    """Where the figures of these runs lie."""
    if len(folders) == 1:
        return folders[0] / "analysis"
    return folders[0].parent / f"analysis-{'+'.join(folder.resolve().name for folder in folders)}"
