"""What `gcc-search recommend` says on the screen, within 100 columns but for paths and reasons."""

from __future__ import annotations

from rich.console import Console

from gcc_search.analysis.comparison_table import (
    KEY,
    SEEDS_HEADING,
    comparison_table,
    say_below,
    say_loss,
    say_seeds,
)
from gcc_search.analysis.measures import Line
from gcc_search.analysis.printing import say_refused
from gcc_search.analysis.recommendation import Recommendation, Wish, say_excluded
from gcc_search.analysis.seeds import SeedSpread, say_notes
from gcc_search.analysis.several import trial_directory
from gcc_search.atomic import place_of
from gcc_search.saying import say

# The last parts of sampled names that stand in the line of settings whether sampled or not.
_NAMED = ("alpha", "beta", "p", "distance", "network")
# Of a mean over the seeds that have a value, where others came to nothing.
_FAILING = "no verdict, as these settings failed or were given up under other seeds"


def print_recommendation(found: Recommendation, wish: Wish, console: Console) -> None:
    """The trial, its settings, why it is that one, and its lines of Table 1."""
    say(console, f"use {place_of(found.trial.folder)}\n    {say_settings(found)}")
    say(console, "why " + "\n    ".join(say_why(found, wish)))
    say(console, f"\ntest split: baseline {place_of(found.baseline.folder)} against ours\n{KEY}\n")
    console.print(comparison_table(found.comparison))
    for line in say_below(found.comparison):
        say(console, line)
    if found.comparison.seeds:
        say(console, SEEDS_HEADING)
    for spread in found.comparison.seeds:
        say(console, f"  {say_seeds(spread)}")
    say_refused(found.problems, console)


def say_settings(found: Recommendation) -> str:
    """Network, data set, seed and the loss's weights in a line."""
    item, explanation = found.comparison, found.trial.record.settings["explanation"]
    named = [say_loss(item), f"distance {explanation['distance']}"]
    others = found.trial.record.sampled.items()
    named += [f"{name} {value}" for name, value in others if name.rpartition(".")[2] not in _NAMED]
    return f"{item.network} on {item.data}, seed {item.seed}: {', '.join(named)}"


def say_why(found: Recommendation, wish: Wish) -> tuple[str, ...]:
    """The rule, what it left out, the runner-up, and whether the test split bears it out; a line each."""
    return (
        f"C* {found.chosen.corrected_consistency:.3f} on the validation split, the highest of "
        f"{found.num_qualified} that qualify ({say_terms(wish)})",
        f"accuracy lost there: {found.chosen.drop_points:+.2f} points",
        f"trials left out of {found.considered}: {say_excluded(found.excluded)}",
        _say_runner_up(found),
        *say_gain(found),
    )


def say_why_frontier(found: Recommendation, wish: Wish) -> tuple[str, ...]:
    """Why a trial is on the frontier, and whether the test split bears out what it gains; a line each."""
    return (
        f"on the frontier: none of the {found.num_qualified} that qualify ({say_terms(wish)}) beats it "
        "on the validation split in accuracy, C*, Gini and whatever else the search ranked by",
        f"C* {found.chosen.corrected_consistency:.3f} there, accuracy lost: {found.chosen.drop_points:+.2f} points",
        *say_gain(found),
    )


def say_terms(wish: Wish) -> str:
    """What a trial must keep to qualify."""
    limit = "" if wish.max_accuracy_drop is None else f", at most {wish.max_accuracy_drop:g} points lost"
    return f"constraints kept{limit}"


def _say_runner_up(found: Recommendation) -> str:
    other = found.runner_up
    if other is None:
        return "runner-up: none, no other trial qualifies"
    behind = found.chosen.corrected_consistency - other.corrected_consistency
    place, lost = trial_directory(other.trial), f"{other.drop_points:+.2f} points lost"
    return f"runner-up: {place}, C* {other.corrected_consistency:.3f}, {behind:.3f} behind, {lost}"


def say_gain(found: Recommendation) -> tuple[str, ...]:
    """What C* gains on the test split, and whether that is more than other seeds, or its images, give by chance."""
    line = next((line for line in found.comparison.lines if line.measure == "C*"), None)
    if line is None:
        return ("test split: C* was not measured of both",)
    told = f"test split: C* {line.difference:+.3f} against the baseline"
    if line.low is None or line.high is None:
        told += "; no whole images.parquet of one of the two, so no interval"
    else:
        told += f", 95 % interval {line.low:+.3f} to {line.high:+.3f} over its images"
    spread, over_images = found.gain_over_seeds, (_say_over_images(line),) if line.verdict else ()
    if spread is None:
        return (told, *over_images)
    if spread.low is None and not spread.is_broken:
        return (told, *over_images, f"no other seed has a value{say_notes(spread)}")
    chosen = "; one of these seeds chose the settings: --confirm trains others" if found.was_chosen_by_seed else ""
    return (told, f"{_say_over_seeds(spread)}{chosen}")


def _say_over_seeds(spread: SeedSpread) -> str:
    told = f"mean over {len(spread.seeds)} seed{'s' * (len(spread.seeds) > 1)}{say_notes(spread)} {spread.mean:+.3f}"
    if spread.low is None or spread.high is None:
        return f"{told}: {_FAILING}"
    if spread.is_broken:
        verdict = _FAILING
    elif spread.low <= 0 <= spread.high:
        verdict = "within the noise of seeds: it holds 0"
    else:
        verdict = f"a {_gain(spread.mean)} beyond the noise of seeds"
    return f"{told}, 95 % interval {spread.low:+.3f} to {spread.high:+.3f}: {verdict}"


def _say_over_images(line: Line) -> str:
    if line.verdict == "too few images":
        return "too few images to say"
    if line.verdict == "within noise":
        return "within the noise of these test images: the interval holds 0"
    return f"a {_gain(line.difference)} beyond the noise of these test images; another seed may differ by more"


def _gain(difference: float) -> str:
    return "gain" if difference > 0 else "loss"
