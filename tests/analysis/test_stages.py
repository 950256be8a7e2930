import io

from rich.console import Console

from gcc_search.analysis.report import analyze
from gcc_search.analysis.stages import show_stages


def shown(*, is_terminal: bool, patience_seconds: float) -> str:
    """What is written while three trials are read."""
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=100)
    with show_stages(console, patience_seconds=patience_seconds) as tell:
        for done in (1, 2, 3):
            tell("reading trials", done, 3)
        tell("computing", 0, 0)
    return console.file.getvalue()


def test_a_terminal_shows_the_stages_of_a_long_analysis():
    text = shown(is_terminal=True, patience_seconds=0)
    assert "reading trials" in text
    assert "3/3" in text
    assert "computing" in text


def test_a_short_analysis_shows_none():
    assert shown(is_terminal=True, patience_seconds=60) == ""


def test_a_pipe_is_told_nothing():
    assert shown(is_terminal=False, patience_seconds=0) == ""


def test_analyze_tells_each_stage_to_its_end(mixed_run):
    told = {}
    analyze(mixed_run.folder, tell=lambda stage, done, total: told.update({stage: (done, total)}))
    assert told == {
        "reading trials of demo": (9, 9),
        "looking at tables": (10, 10),
        "computing": (0, 0),
        "drawing figures": (8, 8),
    }
