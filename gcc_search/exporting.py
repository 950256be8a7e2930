"""`gcc-search recommend --export`: the recommended network as one file that says what it is, and its card beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gcc_search.analysis.recommendation import Recommendation, Wish
from gcc_search.analysis.recommendation_text import say_why
from gcc_search.atomic import fetch, write_atomically
from gcc_search.errors import ResultsError
from gcc_search.model_card import model_card
from gcc_search.model_file import SUFFIX, ModelFacts, write_model
from gcc_search.results.reader import Trial, read_run_record
from gcc_search.results.schema import NETWORK_FILE
from gcc_search.targets import check_here, check_place
from gcc_search.trained import Trained, open_trained
from gcc_search.training.datasets import eval_crop_of
from gcc_search.training.normalisation import CHANNEL_MEAN, CHANNEL_STD


def check_target(path: Path, *, force: bool) -> None:
    """Before anything is computed.

    Raises:
        ResultsError: a name that the other commands would not take for a model, a place that cannot be written to, or
            a file that is in the way.
    """
    check_here("--export", path)
    check_place("--export", path)
    if path.suffix != SUFFIX:
        raise ResultsError(f"--export: must end in {SUFFIX}, got {path}; as in model{SUFFIX}")
    for target in (path, card_of(path)):
        if target.exists() and not force:
            raise ResultsError(f"{target}: must be a new name, got one that exists; choose another, or add --force")


def card_of(path: Path) -> Path:
    """Where the card of the model at `path` lies."""
    return path.with_suffix(".md")


def export_recommended(found: Recommendation, wish: Wish, path: Path) -> tuple[Path, Path]:
    """Writes the network and its card; their paths.

    Raises:
        ResultsError, WeightsError: the trial has no network, it is torn, or the folder cannot be written to.
    """
    return export_one(found, say_why(found, wish), path)


def export_one(found: Recommendation, why: Sequence[str], path: Path) -> tuple[Path, Path]:
    """`export_recommended` of a trial that was chosen for other reasons, `why`, a line each."""
    facts = export_network(found.trial, path)
    card = model_card(found, why, facts, _images_of(found.trial), file=path.name)
    write_atomically(card_of(path), card.encode())
    return path, card_of(path)


def export_network(trial: Trial, path: Path) -> ModelFacts:
    """Writes a trial's network alone, or a baseline's; what its file says of it.

    Raises:
        ResultsError, WeightsError: see `export_recommended`.
    """
    fetch([trial.folder / NETWORK_FILE])
    trained = open_trained(trial.folder)
    facts = _facts(trained, trial, tuple(_images_of(trial)["classes"]))
    write_model(path, trained.network.model.state_dict(), facts)
    return facts


def _images_of(trial: Trial) -> dict[str, Any]:
    """The trial's images as its run.json tells of them."""
    run = trial.folder.resolve().parent.parent
    fingerprint = trial.record.data_fingerprint
    for images in read_run_record(run).data:
        if images["fingerprint"] == fingerprint:
            return images
    raise ResultsError(
        f"{run}/run.json: must tell of the images {fingerprint[:12]}, got others; were folders mixed up?"
    )


def _facts(trained: Trained, trial: Trial, classes: tuple[str, ...]) -> ModelFacts:
    settings = trained.settings
    run = trained.place.resolve().parent.parent.name
    return ModelFacts(
        network=settings.network,
        classes=classes,
        image_size=settings.recipe.image_size,
        crop=eval_crop_of(settings.data.name),
        mean=CHANNEL_MEAN,
        std=CHANNEL_STD,
        trial=f"{run}/{trial.folder.name}",
        settings=_without_paths(settings.model_dump(mode="json")),
        data_fingerprint=trained.fingerprint,
        versions=trained.versions,
    )


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Where files lay on the machine that trained is nobody's business, and of no use elsewhere."""
    return settings | {
        "data": settings["data"] | {"root": None},
        "weights": Path(settings["weights"]).name,
    }
