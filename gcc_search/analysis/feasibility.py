"""What trials are ranked by and which of them are feasible, read from run.json. Validation decides, test values never.

The analysis ranks in the paper's three quantities, accuracy, C* and sparsity (Gini), whatever the search ranked by, so
that frontiers of different searches mean the same. A further metric of the search is added to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcc_search.analysis.pairing import Pair
from gcc_search.errors import ResultsError, SpaceError
from gcc_search.objectives import Constraint, Metric, parse_constraint, ranked_by
from gcc_search.results.schema import RunRecord

# Of what is quoted from a file that may be anybody's.
LONGEST_QUOTE = 80


@dataclass(frozen=True, kw_only=True)
class Question:
    """The metrics to rank by (`objectives.ranked_by`), and what must hold."""

    metrics: tuple[Metric, ...]
    constraints: tuple[Constraint, ...]


def read_question(record: RunRecord) -> Question:
    """What to rank by and the frozen space's `constraints`, parsed by the search's own rules.

    Raises:
        ResultsError: a metric or constraint that this version does not know.
    """
    try:
        metrics = ranked_by(entry["name"] for entry in record.space["metrics"])
        constraints = tuple(parse_constraint(text) for text in record.space["constraints"])
    except (KeyError, TypeError) as error:
        raise ResultsError(
            f"{record.name}: run.json's space must have known metrics and constraints, "
            f"got: {str(error)[:LONGEST_QUOTE]}; read it with the gcc-search that wrote it"
        ) from None
    except SpaceError as error:
        raise ResultsError(f"{record.name}: run.json: constraints: {error}") from None
    return Question(metrics=metrics, constraints=constraints)


def is_feasible(pair: Pair, constraints: tuple[Constraint, ...]) -> bool:
    """True where the trial finished and every constraint holds on validation values; a missing value breaks it."""
    return pair.trial.status == "finished" and first_broken(pair, constraints) is None


def first_broken(pair: Pair, constraints: tuple[Constraint, ...]) -> Constraint | None:
    """The first constraint that validation values break, None where all hold."""
    return next((constraint for constraint in constraints if not _holds(constraint, pair)), None)


def _holds(constraint: Constraint, pair: Pair) -> bool:
    value = pair.trial.validated(constraint.metric.column)
    baseline = pair.baseline.validated(constraint.metric.column)
    if value is None or (constraint.relative and baseline is None):
        return False
    return constraint.violation(value, baseline if baseline is not None else 0.0) <= 0
