"""Table 1 for people: one Markdown table per network, at most 100 columns wide."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from gcc_search.analysis.best import Row
from gcc_search.analysis.comparison import Comparison, Disagreement
from gcc_search.analysis.measures import FEWEST_IMAGES, MEASURES, Line, Mean, label_of
from gcc_search.analysis.seeds import INTERVAL, SeedSpread, say_which
from gcc_search.analysis.several import trial_directory
from gcc_search.analysis.table import short_scientific
from gcc_search.results.schema import SINCE_2

ARROWS = {"up": "↑", "down": "↓", "none": " "}
HEADINGS = ("measure", "baseline", "ours", "difference", "95 % interval", "images")
KEY = (
    "↑ ↓ better | accuracy in points | ± standard error over test images | difference: ours - baseline,\n"
    "with its 95 % interval (paired bootstrap over the images) | * the interval leaves out 0, or, of\n"
    "accuracies and constant maps, McNemar's exact p < 0.05: beyond the noise of these test images (under\n"
    f"{FEWEST_IMAGES}: too few to say, no *); another seed may differ by more | each row stands on its own: where\n"
    "nothing differs, three tables in ten or so have a * by chance alone | consistency: SSIM\n"
    "of both maps for the class predicted on x; own consistency: each map for the class predicted on its\n"
    "own view, as in the paper: two quantities, not one in two units"
)


def comparison_heading(item: Comparison) -> str:
    """Which trial stands against which baseline, and what it was trained with; two lines."""
    validated = f"validation C* {item.validation_corrected_consistency:.3f}"
    return (
        f"{item.network} on {item.data}, seed {item.seed}: baseline {item.baseline}\n"
        f"ours: {trial_directory(item.trial)} ({say_loss(item)}; {validated})"
    )


def say_loss(item: Comparison | Row) -> str:
    """`alpha 8.8e-1, beta 1.4e-2, p 1.16`."""
    return f"alpha {short_scientific(item.alpha)}, beta {short_scientific(item.beta)}, p {item.p:.2f}"


def comparison_table(item: Comparison) -> Table:
    """A row per measure: baseline, ours, difference and its interval."""
    table = Table(box=box.MARKDOWN, padding=(0, 1))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "measure" else "right", no_wrap=True)
    for line in item.lines:
        table.add_row(*map(Text, line_cells(line)))
    return table


def line_cells(line: Line) -> tuple[str, ...]:
    """A row of the table as text, one cell under each of `HEADINGS`."""
    digits = digits_of(line)
    interval, mark = "-", "*" if line.verdict == "apart" else " "
    if line.low is not None and line.high is not None:
        interval = f"{line.low:+.{digits}f} to {line.high:+.{digits}f}"
    return (
        f"{label_of(line.measure)} {ARROWS[line.better]}",
        _with_error(line.baseline, line.baseline_se, digits),
        _with_error(line.trained, line.trained_se, digits),
        f"{line.difference:+.{digits}f}{mark}",
        interval,
        "-" if line.num_images is None else str(line.num_images),
    )


def digits_of(item: Line | Mean) -> int:
    """Digits after the point that its values are told with."""
    return 2 if item.measure.endswith("100") or item.unit == "points" else 3


def _with_error(value: float, error: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if error is None else f"{value:.{digits}f} ± {error:.{digits}f}"


def say_below(item: Comparison) -> list[str]:
    """What stands below the table: McNemar's test, and which lines it cannot have yet."""
    told, names = [say_disagreement(item.disagreement)], {line.measure for line in item.lines}
    missing = [measure.name for measure in MEASURES if measure.recorded in SINCE_2 and measure.name not in names]
    if missing:
        of_whom = "not measured yet by the gcc-search that scored one of the two"
        told.append(f"{' and '.join(map(label_of, missing))}: {of_whom}; gcc-search evaluate measures them")
    return told


def say_disagreement(found: Disagreement | None) -> str:
    """McNemar's test in a line."""
    if found is None:
        return "no whole images.parquet of one of the two: means only, no errors, no intervals"
    return (
        f"accuracy: right where the other is wrong: baseline {found.only_baseline} images, "
        f"ours {found.only_trained}; McNemar's exact p = {found.p_value:.2g}"
    )


SEEDS_HEADING = f"the same settings under several seeds, ours - baseline ({INTERVAL}):"


def say_seeds(spread: SeedSpread) -> str:
    """`C*: +0.120 (+0.081 to +0.159) over seeds 0, 1, 2`: mean difference and its interval."""
    known = spread.low is not None and spread.high is not None
    interval = f" ({spread.low:+.3f} to {spread.high:+.3f})" if known else ""
    return f"{label_of(spread.measure)}: {spread.mean:+.3f}{interval} over {say_which(spread)}"
