"""`gcc-search recommend --confirm`: a space file that trains the recommended settings again, under other seeds.

The recommended trial is the best of many under one seed, and in part by that seed's luck: what is reported should come
from seeds that had no part in choosing it.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from pydantic import ValidationError

from gcc_search.analysis.recommendation import Recommendation
from gcc_search.atomic import write_atomically
from gcc_search.complaints import explain_record
from gcc_search.errors import ResultsError
from gcc_search.identity import settings_of
from gcc_search.letters import printable
from gcc_search.results.reader import Trial, read_run_record
from gcc_search.settings import TrialSettings
from gcc_search.space import SearchSpace
from gcc_search.targets import check_here, check_target
from gcc_search.yaml_file import as_yaml

SUFFIXES = (".yaml", ".yml")
# A run's name has 64 characters at most.
_SUFFIX, _MOST_OF_NAME = "-seeds", 58


def check_space_target(path: Path, *, force: bool) -> None:
    """Before anything is read.

    Raises:
        ResultsError: no name of a space file, one that exists, or a place that cannot be written to.
    """
    check_here("--confirm", path)
    if path.suffix not in SUFFIXES:
        raise ResultsError(f"--confirm: must end in {' or '.join(SUFFIXES)}, got {path}; as in seeds.yaml")
    check_target("--confirm", path, inputs=[])
    if path.exists() and not force:
        raise ResultsError(f"{path}: must be a new name, got one that exists; choose another, or add --force")


def write_confirming_space(found: Recommendation, path: Path, *, num_seeds: int, chosen_among: Iterable[Trial]) -> str:
    """Writes the space file of `num_seeds` seeds that none of the trials `chosen_among` had; the command for it.

    Raises:
        ResultsError: the trial's run.json or settings are not to be read, or the folder cannot be written to.
    """
    run = found.trial.folder.resolve().parent.parent
    asked = _space_of(run)
    known = {trial.record.settings["seed"] for trial in chosen_among}
    space = confirming_space(asked, settings_of(found.trial), num_seeds=num_seeds, known=known)
    each = ["a baseline"] if space.start is None else ["a baseline", "a network to start from"]
    command = f"gcc-search --space {shlex.quote(str(path))} --gpus N"
    heading = f"""\
# What:     The settings of {printable(run.name)}/trials/{found.trial.folder.name}, which
#           `gcc-search recommend` chose, under {num_seeds} seeds that had no part in choosing them; and
#           {" and ".join(each)} under each.
# Command:  {printable(command)}
# Expect:   {(1 + len(each)) * num_seeds} networks. Then `gcc-search recommend runs/{space.name}` says
#           what is gained over seeds.
"""
    text = heading + as_yaml(space.model_dump(mode="json", exclude_defaults=True))
    write_atomically(path, text.encode())
    return command


def _space_of(run: Path) -> SearchSpace:
    try:
        return SearchSpace.model_validate(read_run_record(run).space)
    except ValidationError as error:
        raise ResultsError(f"{run}/run.json: space: {explain_record(error, SearchSpace)}") from None


def confirming_space(
    asked: SearchSpace, settings: TrialSettings, *, num_seeds: int, known: Collection[int]
) -> SearchSpace:
    """The settings of a trial of a search that was `asked` for, as a grid over seeds that are not `known`."""
    others = itertools.islice((seed for seed in itertools.count() if seed not in known), num_seeds)
    content = asked.model_dump(mode="json") | {
        "name": asked.name[:_MOST_OF_NAME] + _SUFFIX,
        "networks": [settings.network],
        **settings.model_dump(mode="json", include={"recipe", "explanation", "evaluation"}),
        "parameters": {"seed": {"values": list(others)}},
        "method": "grid",
        "seed": 0,
        **dict.fromkeys(("points", "run_cap", "max_hours", "early_terminate")),
    }
    return SearchSpace.model_validate({name: value for name, value in content.items() if value is not None})
