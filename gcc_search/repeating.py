"""`gcc-search train --like TRIAL`: a trial's settings again, with what the trial was compared to and started from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gcc_search.atomic import copy_tree
from gcc_search.errors import DataError, ResultsError
from gcc_search.identity import Identity, settings_of, start_key
from gcc_search.results.reader import network_problem, read_trial
from gcc_search.results.schema import TrialRecord
from gcc_search.settings import TrialSettings
from gcc_search.storage.mirror import push_tree


@dataclass(frozen=True, kw_only=True)
class Original:
    """A trial to be trained again.

    Args:
        threads: torch's when it was trained; None where not known.
        needs: folders below its run's baselines/, those that are there and whole.
    """

    folder: Path
    identity: Identity
    settings: TrialSettings
    fingerprint: str
    threads: int | None
    needs: tuple[Path, ...]

    def check_images(self, fingerprint: str) -> None:
        """Raises DataError where the images are others than those that the trial was trained on."""
        # A trial that failed before it saw its images has no fingerprint.
        if self.fingerprint and fingerprint != self.fingerprint:
            raise DataError(
                f"{self.folder}: images must be those it was trained on, got others "
                f"({fingerprint[:12]} for {self.fingerprint[:12]}); name their folder with --data-root"
            )

    def copy_needs(self, run: Path) -> None:
        """Puts baseline and start network into `run`, unless they are there, so that it stands alone wherever the first
        goes.

        Raises:
            DiskError, DiskFullError: they cannot be copied.
        """
        for folder in self.needs:
            copy = run / "baselines" / folder.name
            if not copy.exists():
                copy_tree(folder, copy)
                push_tree(copy)


def needs_of(record: TrialRecord) -> list[str]:
    """Names below baselines/ of what a trial was compared to and started from."""
    start = start_key(str(record.settings.get("weights", "")))
    return [name for name in (start, record.baseline) if name]


def read_original(folder: Path, *, data_root: Path | None = None, download: bool = False) -> Original:
    """The trial or baseline in `folder`; `data_root` replaces the folder that its images were in.

    Raises:
        ResultsError: no trial directory, torn, of settings that this version does not know, or without the network
            that it started from.
    """
    trial = read_trial(folder)
    settings, record = settings_of(trial, data_root=data_root, download=download), trial.record
    baselines = folder.resolve().parent.parent / "baselines"
    needs: list[Path] = []
    if (key := start_key(settings.weights)) is not None:
        needs.append(baselines / key)
        if not _is_whole(needs[0]):
            raise ResultsError(f"{needs[0]}: must hold the network that {folder} started from, got nothing whole there")
    # A trial that was copied out of its run is trained all the same; collapse is then not looked for.
    baseline = record.baseline if record.baseline and _is_whole(baselines / record.baseline) else None
    if baseline is not None:
        needs.append(baselines / baseline)
    return Original(
        folder=folder,
        identity=Identity(id=record.id, sampled=record.sampled, baseline=baseline),
        settings=settings,
        fingerprint=record.data_fingerprint,
        threads=record.threads,
        needs=tuple(needs),
    )


def _is_whole(folder: Path) -> bool:
    try:
        trial = read_trial(folder)
    except ResultsError:
        return False
    return trial.record.status == "finished" and network_problem(trial) is None
