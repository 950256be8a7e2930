"""`gcc-search evaluate`: a trained network, measured image by image on a split of its own images or of others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch
from rich.console import Console

from gcc_search.analysis.means_table import means_table
from gcc_search.analysis.measures import means_of
from gcc_search.cose import score_cose
from gcc_search.errors import DataError, ResultsError, SpaceError
from gcc_search.keeper import image_columns
from gcc_search.preparation import DataSet, choose_device, prepare_images
from gcc_search.results.schema import IMAGES, PAIRS
from gcc_search.results.tables import read_table
from gcc_search.results.writer import write_image_table, write_pair_table
from gcc_search.saying import progress, say
from gcc_search.settings import TrialSettings
from gcc_search.space import check_settings
from gcc_search.targets import check_here, check_target
from gcc_search.trained import Trained, open_trained
from gcc_search.training.evaluation import Columns, measure
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.image_set import ImageSet
from gcc_search.training.listings import spelt_alike
from gcc_search.training.network import Network
from gcc_search.training.passes import Passes
from gcc_search.trial import evaluation_of

# Of a network's classes, in a message.
MAX_TOLD = 10
# More than a data set has.
ALL_IMAGES = 1_000_000_000
# What makes a folder a trial's.
TRIAL_FILE = "trial.json"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `evaluate` is asked for. None: as the network was trained.

    Args:
        dataset, classes: other images; their classes must be among those of the network.
        insertion_images: insertion and deletion of at most so many of them; None: of all.
        cose_images: COSE over at most so many of them; None: without.
        out: where images.parquet is written, COSE's pairs beside it; `force`: whatever tables are there.
    """

    data_root: Path | None = None
    dataset: str | None = None
    classes: tuple[str, ...] | None = None
    split: str = "test"
    insertion_images: int | None = None
    cose_images: int | None = None
    device: str | None = None
    out: Path | None = None
    force: bool = False

    @property
    def pairs_out(self) -> Path | None:
        """Where COSE's pairs belong: `x.cose.parquet` beside `x.parquet`."""
        return None if self.out is None else self.out.with_suffix(".cose.parquet")


def evaluate(place: Path, asked: Asked, console: Console) -> Columns:
    """The per-image measures of the network at `place`; prints their means, and writes them where asked to.

    Raises:
        ResultsError, WeightsError: `place` is no trial and no export, or torn; `asked.out` cannot be written.
        DataError, SpaceError: images that are not there, or of other classes.
        ResourceError: a GPU that is not there.
    """
    device, split = choose_device(asked.device), _check_split(asked.split)
    _check_out(asked.out, IMAGES, asked, place)
    if asked.cose_images is not None:
        _check_out(asked.pairs_out, PAIRS, asked, place)
    trained = open_trained(place, data_root=asked.data_root)
    for line in trained.notes:
        say(console, line)
    settings = _settings_for(trained, asked)
    data = _prepare(settings, asked, console)
    images = _labelled(trained, data.classes, data.validation if split == "validation" else data.test)
    say(console, f"{trained.name} on the {split} split of {data.name}; {_say_origin(trained, data)}: {len(images)}")
    evaluation = evaluation_of(settings, device, insertion=True)
    columns = _measure(trained.network.to(device), images, evaluation, console)
    console.print(means_table(means_of({name: values.double().numpy() for name, values in columns.items()})))
    if asked.out is not None:
        write_image_table(asked.out, image_columns(columns, images.names))
        say(console, f"wrote {asked.out}")
    if asked.cose_images is not None:
        pairs = score_cose(trained, images, evaluation, most=asked.cose_images, console=console)
        if asked.pairs_out is not None:
            write_pair_table(asked.pairs_out, pairs)
            say(console, f"wrote {asked.pairs_out}")
    elif asked.pairs_out is not None and asked.pairs_out.exists():
        say(console, f"{asked.pairs_out} is of an earlier evaluate --cose: left as it is")
    return columns


def _check_split(asked: str) -> str:
    if asked not in ("test", "validation"):
        raise SpaceError(f"--split: must be test or validation, got {asked}")
    return asked


def _check_out(out: Path | None, schema: pa.Schema, asked: Asked, place: Path) -> None:
    # Told before the work, not after it.
    if out is None:
        return
    check_here("--out", out)
    if out.suffix != ".parquet":
        raise ResultsError(f"--out: must end in .parquet, got {out}; as in images.parquet")
    if not out.absolute().parent.is_dir():
        raise ResultsError(f"--out: {out}: must lie in a folder that exists, got {out.parent}; create it first")
    check_target("--out", out, inputs=[place])
    if out.exists() and (out.absolute().parent / TRIAL_FILE).exists():
        raise ResultsError(f"--out: {out}: must be no trial's own table, got one; choose another name")
    if out.exists() and not asked.force and not _is_table(out, schema):
        told = "must be a new name or a table that evaluate wrote, got another file"
        raise ResultsError(f"--out: {out}: {told}; choose another, or add --force")


def _is_table(path: Path, schema: pa.Schema) -> bool:
    try:
        read_table(path, schema)
    except ResultsError:
        return False
    return True


def _settings_for(trained: Trained, asked: Asked) -> TrialSettings:
    """The trial's settings, with the asked images and insertion put in."""
    content = trained.settings.model_dump()
    if asked.dataset not in (None, trained.settings.data.name):
        content["data"] = {"name": asked.dataset, "root": asked.data_root, "classes": trained.classes}
    if asked.classes is not None:
        content["data"]["classes"] = asked.classes
    # A trial takes a few, as there are many trials.
    content["evaluation"]["insertion_images"] = ALL_IMAGES if asked.insertion_images is None else asked.insertion_images
    return check_settings(content)


def _prepare(settings: TrialSettings, asked: Asked, console: Console) -> DataSet:
    try:
        return prepare_images(settings.data, settings.recipe.image_size, console)
    except DataError as error:
        if asked.classes is None and str(error).startswith("data.classes:"):
            raise DataError(f"{error}; the network has more: name those that are in both with --classes") from None
        raise


def _labelled(trained: Trained, classes: tuple[str, ...], images: ImageSet) -> ImageSet:
    """`images` with the network's numbers for their classes, which may be some of those it knows.

    Raises:
        DataError: a class that the network does not know.
    """
    known = trained.classes
    if known is None:
        if len(classes) != trained.num_classes:
            raise DataError(f"{trained.place}: images must be of {trained.num_classes} classes, got {len(classes)}")
        return images
    spelt = list(map(spelt_alike, known))
    unknown = [name for name in classes if spelt_alike(name) not in spelt]
    if unknown:
        raise DataError(
            f"{trained.place}: classes of the images must be among those of the network, got {unknown[0]!r} "
            f"({len(unknown)} of {len(classes)} unknown); choose with --classes from {_shorten(known)}"
        )
    return replace(images, labels=torch.tensor([spelt.index(spelt_alike(name)) for name in classes])[images.labels])


def _shorten(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:MAX_TOLD])
    return shown if len(names) <= MAX_TOLD else f"{shown}, ... ({len(names)} in all)"


def _say_origin(trained: Trained, data: DataSet) -> str:
    if data.fingerprint == trained.fingerprint:
        return "the images it was searched with"
    return "other images than those it was searched with (some of which it may have been trained on)"


def _measure(network: Network, images: ImageSet, evaluation: Evaluation, console: Console) -> Columns:
    with progress(console, f"measuring {len(images)} images") as on_step:
        return measure(Passes(network), images, evaluation, on_step=on_step)
