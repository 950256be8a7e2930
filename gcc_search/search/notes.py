"""What a space asks for that is no mistake, and that its author may not have meant; told before a search starts."""

from __future__ import annotations

from gcc_search.search.study import list_points, trials_per_network
from gcc_search.settings import Explanation
from gcc_search.space import SearchSpace


def notes(space: SearchSpace) -> list[str]:
    """A line for each."""
    found: list[str] = []
    if "paper" in _values_of(space, "sparsity") and 0 in _values_of(space, "p"):
        found.append("note: p = 0 in the paper's form counts pixels and has no gradient: beta does nothing there")
    weights = {*_values_of(space, "alpha"), *_values_of(space, "beta")}
    if weights == {0} and not _crops_otherwise(space):
        found.append(
            "note: alpha and beta are 0 in every trial: each is trained as its baseline is, whatever else of the "
            "explanation is searched"
        )
    if _crops_otherwise(space):
        found.append(
            "note: cross-entropy is on second views, too, which baselines crop to at least "
            f"{Explanation().transform_scale_min:g} of an image (transform_scale_min) and trials otherwise: what that "
            "does to accuracy is counted as the explanation's"
        )
    found += _given_up_though_allowed(space)
    if space.method == "grid" and space.points:
        found.append("note: the grid holds what points lists, which is trained twice; leave points out")
    asked, listed = sum(trials_per_network(space).values()), len(space.networks) * len(list_points(space))
    if space.method in ("grid", "points") and asked < listed:
        found.append(f"note: run_cap lets {asked} of the {listed} trials run that method: {space.method} lists")
    return found


def _given_up_though_allowed(space: SearchSpace) -> list[str]:
    """Constraints that keep trials which are given up all the same."""
    limit = space.collapse.points
    loose = [
        constraint.text
        for constraint in space.parsed_constraints()
        # One of 100 points bounds nothing.
        if constraint.metric.name == "accuracy" and constraint.relative and limit < -constraint.offset < 100
    ]
    return [
        f"note: {text} allows more than collapse.points, by which a trial is given up {limit:g} points under its "
        "baseline; raise collapse.points to train it on"
        for text in loose
    ]


def _crops_otherwise(space: SearchSpace) -> bool:
    """Whether a trial's cross-entropy is on second views that are cropped otherwise than its baseline's."""
    crops = _values_of(space, "transform_scale_min")
    return "both" in _values_of(space, "ce_on_views") and crops != [Explanation().transform_scale_min]


def _values_of(space: SearchSpace, name: str) -> list[object]:
    """What `name`, a setting of the explanation, can be in a trial; a range of real numbers stands for all of it."""
    parameter = space.parameters.get(name)
    if parameter is None:
        return [getattr(space.explanation, name)]
    points = [point[name] for point in space.points if name in point]
    if space.method == "points" and points:
        return [*points]
    drawn = (parameter.min, parameter.max) if parameter.distribution == "int_uniform" else (parameter,)
    return [*(parameter.choices or drawn), *points]
