"""What a search may ask for: metrics with their direction, and constraints against the baseline.

A metric is a column of epochs.parquet, read off the validation split at a trial's last epoch. Imported by the space
file's checks, the sampler and the analysis, so that one rule decides what is feasible.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gcc_search.errors import SpaceError

Goal = Literal["maximize", "minimize"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A quantity a search may rank by. `worst` is what a diverged trial is told as, `best` the other end."""

    name: str
    column: str
    goal: Goal
    worst: float
    best: float

    def loss(self, value: float) -> float:
        """`value` with its sign turned where more is better; the worst there is for what is not finite."""
        finite = value if math.isfinite(value) else self.worst
        return -finite if self.goal == "maximize" else finite


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="accuracy", column="accuracy_points", goal="maximize", worst=0, best=100),
        Metric(name="consistency", column="consistency", goal="maximize", worst=-1, best=1),
        Metric(name="corrected_consistency", column="corrected_consistency", goal="maximize", worst=-1, best=1),
        Metric(name="correlation", column="correlation", goal="maximize", worst=-1, best=1),
        Metric(name="gini", column="gini", goal="maximize", worst=0, best=1),
        Metric(name="mass_half", column="mass_half", goal="minimize", worst=1, best=0),
        Metric(name="degenerate_fraction", column="degenerate_fraction", goal="minimize", worst=1, best=0),
        Metric(name="box_mass", column="box_mass", goal="maximize", worst=0, best=1),
        Metric(name="pointing", column="pointing", goal="maximize", worst=0, best=1),
    )
}

RANKED = ("accuracy", "corrected_consistency", "gini")
"""The paper's three quantities: frontiers are in them, whatever a search ranked by, so that they mean the same."""


def ranked_by(asked: Iterable[str]) -> tuple[Metric, ...]:
    """What a frontier is in: `RANKED`, then the further metrics that a search asked for.

    Raises:
        KeyError: there is no such metric.
    """
    return tuple(METRICS[name] for name in dict.fromkeys((*RANKED, *asked)))


_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CONSTRAINT = re.compile(
    rf"\s*(?P<metric>\w+)\s*(?P<sign>>=|<=)\s*"
    rf"(?:(?P<baseline>baseline)(?:\s*(?P<op>[+-])\s*(?P<offset>{_NUMBER}))?|(?P<value>-?{_NUMBER}))\s*",
    re.ASCII,
)


def closest(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """`did you mean X?` where something known is spelt like `name`, else the list of what is known."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """`metric >= baseline + offset`, or `metric >= offset` where not `relative`; `<=` where not `at_least`."""

    text: str
    metric: Metric
    at_least: bool
    relative: bool
    offset: float

    def violation(self, value: float, baseline: float) -> float:
        """How far `value` is on the wrong side, in the metric's unit; at most 0 when the constraint holds."""
        bound = self.offset + (baseline if self.relative else 0.0)
        wrong = bound - value if self.at_least else value - bound
        # 7 and 6 images of 100 are 1.0000000000000009 points apart.
        return round(wrong, 9)

    def violated_share(self, value: float, baseline: float) -> float:
        """The same as a share of all that the metric can be: of several constraints these can be added up."""
        return self.violation(value, baseline) / abs(self.metric.best - self.metric.worst)


def parse_constraint(text: str) -> Constraint:
    """A constraint from the words of a space file: `accuracy >= baseline - 1.0` (points), `gini >= 0.4`.

    Raises:
        SpaceError: other words, or a metric that does not exist.
    """
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise SpaceError(f'must read "METRIC >= baseline - NUMBER" or "METRIC >= NUMBER" (or <=), got "{_shown(text)}"')
    name = match["metric"]
    if name not in METRICS:
        raise SpaceError(f'must name a known metric, got "{_shown(name)}"; {closest(name, METRICS)}')
    relative = match["baseline"] is not None
    offset = float((match["op"] or "") + (match["offset"] or "0")) if relative else float(match["value"])
    if not math.isfinite(offset):
        raise SpaceError(f'must hold a finite number, got "{_shown(text)}"')
    return Constraint(text=text, metric=METRICS[name], at_least=match["sign"] == ">=", relative=relative, offset=offset)


def _shown(text: str) -> str:
    """On one line, cut to a few words: run.json may come from elsewhere."""
    plain = "".join(char if char.isprintable() else "?" for char in text[:60])
    return plain if len(text) <= 60 else f"{plain}..."
