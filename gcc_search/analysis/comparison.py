"""Table 1 of the paper as data: each network's baseline against its chosen trial, on the test split.

Chosen is the feasible trial with the highest corrected consistency C* on the validation split; test values decide
nothing. Differences are trained - baseline, paired image by image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gcc_search.analysis.bootstrap import mcnemar_p
from gcc_search.analysis.feasibility import Question, is_feasible
from gcc_search.analysis.measures import ACCURACY, Line, lines_from_images, lines_from_records
from gcc_search.analysis.paired_images import PairedImages
from gcc_search.analysis.pairing import Pair
from gcc_search.analysis.seeds import INTERVAL, SeedSpread, over_seeds, say_without
from gcc_search.results.schema import TrialRecord

RULE = "ours: the feasible trial with the highest C* on the validation split; every value: test split"


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Test images that one of the two alone classifies correctly, and McNemar's exact two-sided p-value of that."""

    only_baseline: int
    only_trained: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A network on a data set.

    Args:
        disagreement: None without images.parquet.
        seeds: the same settings under several seeds, where they were trained.
    """

    data: str
    network: str
    seed: int
    baseline: str
    trial: str
    alpha: float
    beta: float
    p: float
    validation_corrected_consistency: float
    lines: tuple[Line, ...]
    disagreement: Disagreement | None
    seeds: tuple[SeedSpread, ...]


def choose_trials(pairs: Sequence[Pair], question: Question) -> tuple[Pair, ...]:
    """The pair to report of each (data set, network), in this order; none where no trial is feasible. Ties: by id."""
    candidates = [pair for pair in pairs if is_feasible(pair, question.constraints) and _validated(pair) is not None]
    best: dict[tuple[str, str], Pair] = {}
    for pair in sorted(candidates, key=lambda pair: (-(_validated(pair) or 0.0), pair.trial.id)):
        best.setdefault(_place(pair), pair)
    return tuple(best[place] for place in sorted(best))


def _place(pair: Pair) -> tuple[str, str]:
    return pair.trial.settings["data"]["name"], pair.trial.network


def _validated(pair: Pair) -> float | None:
    return pair.trial.validated("corrected_consistency")


def compare_chosen(
    chosen: Sequence[Pair],
    pairs: Sequence[Pair],
    records: Sequence[TrialRecord],
    images: Mapping[str, PairedImages | None],
) -> tuple[Comparison, ...]:
    """Table 1.

    Args:
        records: of all trials, whatever became of them.
        images: of each chosen trial, by id; None where they cannot be read.
    """
    return tuple(_compare(pair, images[pair.trial.id], over_seeds(pair, pairs, records)) for pair in chosen)


def _compare(pair: Pair, images: PairedImages | None, seeds: tuple[SeedSpread, ...]) -> Comparison:
    explanation, (data, network) = pair.trial.settings["explanation"], _place(pair)
    return Comparison(
        data=data,
        network=network,
        seed=pair.trial.settings["seed"],
        baseline=pair.baseline.id,
        trial=pair.trial.id,
        **{name: explanation[name] for name in ("alpha", "beta", "p")},
        validation_corrected_consistency=_validated(pair) or 0.0,
        lines=lines_from_images(images) if images else lines_from_records(pair),
        disagreement=_disagreement(images) if images else None,
        seeds=seeds,
    )


def _disagreement(images: PairedImages) -> Disagreement:
    only_baseline, only_trained = images.count_discordant(ACCURACY.columns[0])
    return Disagreement(
        only_baseline=only_baseline, only_trained=only_trained, p_value=mcnemar_p(only_baseline, only_trained)
    )


def comparison_rows(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """A row per network and measure, for table1.csv. McNemar's p-value stands in the rows of shares of images."""
    return [_row(item, line) for item in comparisons for line in item.lines]


def _row(item: Comparison, line: Line) -> dict[str, Any]:
    named = {name: value for name, value in asdict(item).items() if name not in ("lines", "disagreement", "seeds")}
    values = {name: value for name, value in asdict(line).items() if name != "mcnemar_p"}
    tested = item.disagreement if line.measure == ACCURACY.name else None
    spread = {spread.measure: spread for spread in item.seeds}.get(line.measure)
    return (
        named
        | values
        | {
            "only_baseline_correct": None if tested is None else tested.only_baseline,
            "only_trained_correct": None if tested is None else tested.only_trained,
            "mcnemar_p": line.mcnemar_p,
            "num_seeds": None if spread is None else len(spread.seeds),
            "seeds_mean": None if spread is None else spread.mean,
            "seeds_low": None if spread is None else spread.low,
            "seeds_high": None if spread is None else spread.high,
            "seeds_interval": None if spread is None or spread.low is None else INTERVAL,
            "seeds_without_value": None if spread is None else say_without(spread) or None,
        }
    )
