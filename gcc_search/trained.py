"""A trained network as it is found on disk: in a trial directory, or in a file that was exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gcc_search.complaints import explain_record
from gcc_search.errors import ResultsError, WeightsError
from gcc_search.identity import settings_of
from gcc_search.model_file import read_model
from gcc_search.plugins import versions_of
from gcc_search.results.reader import Trial, network_problem, read_run_record, read_trial
from gcc_search.results.schema import NETWORK_FILE
from gcc_search.settings import TrialSettings
from gcc_search.training.network import Network
from gcc_search.training.networks import restore_network
from gcc_search.training.weights import read_tensors


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A network with all that is needed to show it images again.

    Args:
        name: the trial's id; `baseline` for one.
        place: where it was found.
        classes: output -> name; None where nothing beside the network tells.
        fingerprint: of the images it was trained on.
        versions: of the packages it was trained with.
        baseline: the directory of the baseline that it is compared to; None where there is none.
    """

    name: str
    place: Path
    settings: TrialSettings
    classes: tuple[str, ...] | None
    fingerprint: str
    network: Network
    versions: dict[str, str]
    baseline: Path | None = None

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    @property
    def notes(self) -> list[str]:
        """A line for each package whose network is another one by now, as its code has changed."""
        now = versions_of([self.settings.network])
        return [
            f"note: {package} is {version}, and was {self.versions.get(package, 'none')} when {self.name} was trained: "
            "its measures may be others"
            for package, version in now.items()
            if self.versions.get(package) != version
        ]

    def class_name(self, label: int) -> str:
        return f"class {label}" if self.classes is None else self.classes[label]


def open_trained(place: Path, *, data_root: Path | None = None) -> Trained:
    """The network of a trial directory or of an exported file; `data_root` replaces the folder of its images.

    Raises:
        ResultsError, WeightsError: neither, torn, without its network, or of another version.
    """
    if place.is_dir():
        return _open_trial(read_trial(place), data_root)
    facts, tensors = read_model(place)
    try:
        settings = TrialSettings.model_validate(facts.settings)
    except ValidationError as error:
        raise WeightsError(f"{place}: settings: {explain_record(error, TrialSettings)}") from None
    data = settings.data if data_root is None else settings.data.model_copy(update={"root": data_root})
    return Trained(
        name=facts.trial.rpartition("/")[2],
        place=place,
        settings=settings.model_copy(update={"data": data}),
        classes=facts.classes,
        fingerprint=facts.data_fingerprint,
        network=restore_network(settings.network, tensors, where=str(place)),
        versions=facts.versions,
    )


def _open_trial(trial: Trial, data_root: Path | None) -> Trained:
    record, path = trial.record, trial.folder / NETWORK_FILE
    if not path.exists():
        left = record.network_sha256 is not None
        why = "it was removed, or not copied" if left else "only those leave it that end with a network to score"
        raise ResultsError(f"{path}: must exist, got nothing: the trial is {record.status}; {why}")
    if problem := network_problem(trial):
        raise WeightsError(problem)
    key, settings = record.baseline, settings_of(trial, data_root=data_root)
    return Trained(
        name="baseline" if record.role == "baseline" else record.id,
        place=trial.folder,
        settings=settings,
        classes=_classes_of(trial),
        fingerprint=record.data_fingerprint,
        network=restore_network(settings.network, read_tensors(path), where=str(path)),
        versions=record.versions,
        baseline=None if key is None else trial.folder.resolve().parent.parent / "baselines" / key,
    )


def _classes_of(trial: Trial) -> tuple[str, ...] | None:
    """From run.json, for a trial that still lies in its run."""
    run = trial.folder.resolve().parent.parent
    if not (run / "run.json").exists():
        return None
    told = {images["fingerprint"]: images["classes"] for images in read_run_record(run).data}
    classes = told.get(trial.record.data_fingerprint)
    return None if classes is None else tuple(classes)
