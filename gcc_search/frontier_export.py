"""`gcc-search export`: the networks on the frontier with their cards, their baselines, and an index of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gcc_search.analysis.printing import say_refused
from gcc_search.analysis.recommendation import Recommendation, Wish, recommend_frontier, say_excluded
from gcc_search.analysis.recommendation_text import say_terms, say_why_frontier
from gcc_search.atomic import fetch, remove_file, write_atomically
from gcc_search.errors import ResultsError, WeightsError
from gcc_search.exporting import card_of, export_network, export_one
from gcc_search.model_card import markdown_table
from gcc_search.model_file import SUFFIX
from gcc_search.results.reader import Run, Trial, network_problem
from gcc_search.results.schema import NETWORK_FILE, TrialRecord
from gcc_search.saying import progress, say
from gcc_search.targets import check_here

INDEX = "README.md"
_NAMED = ("alpha", "beta", "p")
_COLUMNS = {"accuracy": "accuracy_points", "C*": "corrected_consistency", "Gini": "gini"}


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is written: by file name the members of the frontier, by rising Gini, and their baselines."""

    folder: Path
    members: Mapping[str, Recommendation]
    baselines: Mapping[str, Trial]

    @property
    def index(self) -> Path:
        return self.folder / INDEX

    def paths(self) -> list[Path]:
        """Every file, the index last."""
        members = [self.folder / name for name in self.members]
        baselines = [self.folder / name for name in self.baselines]
        return [*baselines, *(path for model in members for path in (model, card_of(model))), self.index]


def check_folder(folder: Path) -> None:
    """Before anything is fetched.

    Raises:
        ResultsError: a bucket's URL, or a file.
    """
    check_here("--out", folder)
    if folder.exists() and not folder.is_dir():
        raise ResultsError(f"--out: {folder}: must be a folder, got a file; name another")


def plan_export(run: Run, wish: Wish, folder: Path, *, force: bool) -> Export:
    """Looks at everything before anything is written.

    Raises:
        ResultsError: no trial qualifies, or something is in the way.
    """
    found = recommend_frontier(run, wish)
    export = Export(
        folder=folder,
        members={_file_name(item.trial): item for item in found},
        baselines={_baseline_name(item): item.baseline for item in found},
    )
    assert len(export.members) == len(found), "ids differ"
    if folders := [path for path in export.paths() if path.is_dir()]:
        raise ResultsError(f"{folders[0]}: must be a name for a file, got a folder; choose another --out")
    taken = next((path for path in export.paths() if path.exists()), None)
    if taken is not None and not force:
        raise ResultsError(f"{taken}: must be a new name, got one that exists; choose another --out, or add --force")
    return export


def write_export(export: Export, wish: Wish, console: Console) -> None:
    """Writes networks, cards and, when they are there, the index; with a bar on a terminal.

    Raises:
        ResultsError, WeightsError: a network is missing or torn (before anything is written), or the disk fails.
    """
    trials = [item.trial for item in export.members.values()] + [*export.baselines.values()]
    fetch([trial.folder / NETWORK_FILE for trial in trials])
    for trial in trials:
        if problem := network_problem(trial):
            raise WeightsError(problem)
    # It is there when all that it names is.
    remove_file(export.index)
    with progress(console, "networks") as tell:
        for number, (name, item) in enumerate(export.members.items(), start=1):
            export_one(item, say_why_frontier(item, wish), export.folder / name)
            tell(number, len(trials))
        for number, (name, baseline) in enumerate(export.baselines.items(), start=len(export.members) + 1):
            export_network(baseline, export.folder / name)
            tell(number, len(trials))
    write_atomically(export.index, _index(export, wish).encode())


def say_export(export: Export, console: Console) -> None:
    """What was written, what qualified and did not, and what was refused."""
    counts = f"{len(export.members)} of the frontier, {len(export.baselines)} that they are compared to"
    say(console, f"wrote networks: {counts}; start at {export.index}")
    found = [*export.members.values()]
    say(console, f"trials left out of {found[0].considered}: {say_excluded(found[0].excluded)}")
    others = sorted(path.name for path in export.folder.glob(f"*{SUFFIX}") if path not in export.paths())
    if others:
        say(console, f"not of this frontier, but there before: {', '.join(others)}")
    say_refused(list(dict.fromkeys(problem for item in found for problem in item.problems)), console)


def _file_name(trial: Trial) -> str:
    # Of several runs read together, a trial is named by its run as well.
    return trial.record.id.replace("/", "-") + SUFFIX


def _baseline_name(item: Recommendation) -> str:
    return f"baseline-{_file_name(item.baseline)}"


def _index(export: Export, wish: Wish) -> str:
    runs = sorted({item.trial.folder.resolve().parent.parent.name for item in export.members.values()})
    rows = [_row(name, item) for name, item in export.members.items()]
    baselines = [(_link(name), *_measures(baseline.record)) for name, baseline in export.baselines.items()]
    first = next(iter(export.members.values()))
    network = f" of {wish.network}" if wish.network else ""
    return f"""\
# The networks on the frontier of {", ".join(runs)}

None of the {first.num_qualified} trials{network} that qualify ({say_terms(wish)}; left out:
{say_excluded(first.excluded)})
beats one of these on the validation split in accuracy, C\\*, Gini and whatever else the search ranked by. From
consistent to sparse: by rising Gini. The card beside each says how it was trained, what it is worth on the test split
against its baseline, and how to load it.

{markdown_table(("network", "alpha", "beta", "p", "seed", "further", *_headings(), "baseline"), rows)}

The baselines, trained without the explanation terms (alpha = beta = 0):

{markdown_table(("network", *_headings()), baselines)}

    gcc-search evaluate FILE --data-root FOLDER          # measures again
    gcc-search explain FILE FILE --images IMAGES         # heatmaps, one below the other
"""


def _headings() -> tuple[str, ...]:
    return tuple(f"{name}, {split}" for split in ("validation", "test") for name in _COLUMNS)


def _row(name: str, item: Recommendation) -> Sequence[str]:
    record = item.trial.record
    asked = record.settings["explanation"]
    weights = (f"{asked[key]:.3g}" for key in _NAMED)
    others = ((key, value) for key, value in record.sampled.items() if key not in (*_NAMED, "seed"))
    further = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in others)
    seed = str(record.settings["seed"])
    return (
        _link(name),
        *weights,
        seed,
        further.replace("|", "\\|") or "-",
        *_measures(record),
        _link(_baseline_name(item)),
    )


def _measures(record: TrialRecord) -> list[str]:
    values = [
        split.get(column) for split in (record.validation or {}, record.test or {}) for column in _COLUMNS.values()
    ]
    digits = [1, 3, 3] * 2
    return ["-" if value is None else f"{value:.{places}f}" for value, places in zip(values, digits, strict=True)]


def _link(name: str) -> str:
    return f"[{name}]({name})"
