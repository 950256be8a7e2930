"""Runs a trial and keeps its directory: the record, a row an epoch, the test images, the network.

Its worker alone writes it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch

from gcc_search.assistants import crew_of
from gcc_search.atomic import remove_leftovers
from gcc_search.errors import DataError, ResultsError, WeightsError
from gcc_search.identity import Identity, start_key
from gcc_search.keeper import Keeper, Pulse, discard_anothers
from gcc_search.occupancy import only_writer
from gcc_search.patience import UNHEARD, Contact
from gcc_search.reference import Reference
from gcc_search.results.reader import is_finished_whole, network_problem, read_trial
from gcc_search.results.schema import NETWORK_FILE, EpochRow, FailureKind
from gcc_search.settings import TrialSettings
from gcc_search.training.datasets import DataSet
from gcc_search.trial import Ended, Progress, Surroundings, open_dataset, run_trial

# How long nobody waits for another process at the folder: what was killed lets go at once.
ALONE_SECONDS = 1.0


def record_trial(
    settings: TrialSettings,
    folder: Path,
    identity: Identity,
    *,
    device: torch.device,
    num_processes: int = 1,
    fingerprint: str | None = None,
    failures: Sequence[FailureKind] = (),
    is_alone: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Generator[EpochRow | Ended, None, None]:
    """`run_trial`, with `folder` kept up to date. Goes on from the folder's last good checkpoint, if there is one.

    Of a record there with other settings nothing is kept; where data and weights lie is none.

    Yields nothing where it has failed before, and its worker has ended it all the same: a machine that is cut off, and
    given up, may share the disk still.

    Closing the iterator records the trial as stopped early. An exception is recorded (interrupted, failed) and raised.
    While the trial computes, trial.json's time of change moves on every few seconds; so does nobody's who hangs.

    Args:
        num_processes: how many train it together, each on a GPU of its own where `device` is one. This one leads them.
        fingerprint: of the images it must be trained with; None: whatever there is.
        failures: how former attempts failed, where their workers did not live to record it.
        is_alone: no search hands it out: who finds another process at it does not wait for that, nor begins anew what
            that has ended.
        on_notice: called with a line for people: a checkpoint that is torn, a disk that is full.

    Raises:
        DiskFullError: the disk was full for longer than `patiently` waits.
        OccupiedError: another process writes there.
        StorageError: where the folder mirrors a bucket: that does not answer, or another attempt writes there now.
        ResultsError: the folder cannot be written to, or the start network's record is torn.
        DataError: other images than `fingerprint` says, or see `run_trial`.
        WeightsError: see `run_trial`.
        ChildProcessError, MemoryError: of several processes, another one ended.
    """
    with only_writer(folder, patience_seconds=ALONE_SECONDS if is_alone else None):
        pulse = Pulse(folder / "trial.json", on_progress)
        contact = Contact(tell=on_notice or UNHEARD.tell, beat=pulse.beat)
        discard_anothers(settings, folder, contact)
        if (failures or is_alone) and _has_ended(folder):
            return
        # Of an attempt whose process was killed while it wrote.
        remove_leftovers(folder)
        with Keeper(settings, folder, identity, device, contact, failures) as keeper:
            data = open_dataset(settings.data, settings.recipe.image_size)
            keeper.begin(data)
            _check_images(data, fingerprint)
            settings = _resolve_weights(settings, folder)
            with crew_of(num_processes, settings, device) as crew:
                reference = _reference(settings, folder, identity, contact)
                surroundings = Surroundings(
                    device=device,
                    reference=reference,
                    earlier=keeper.rows,
                    checkpoints=folder / "checkpoint",
                    weights_file=folder / NETWORK_FILE,
                    on_progress=pulse.on_progress,
                    contact=contact,
                    crew=crew,
                )
                for event in run_trial(settings, surroundings):
                    if isinstance(event, EpochRow):
                        keeper.add_epoch(event)
                    else:
                        known = reference.epochs_known if reference else None
                        keeper.finish(event, data, baseline_epochs=known)
                    yield event


def _check_images(data: DataSet, fingerprint: str | None) -> None:
    # A machine that joined in the middle of a search was not there when the others were looked at.
    if fingerprint not in (None, data.fingerprint):
        raise DataError(
            f"{socket.gethostname()}: images of {data.name} must be those the search began with, got others; "
            "copy them there, then resume"
        )


def _has_ended(folder: Path) -> bool:
    """Whether there is nothing left to do. A finished one is also what others start from: whole."""
    try:
        trial = read_trial(folder)
    except ResultsError:
        return False
    return trial.record.status in ("collapsed", "diverged") or is_finished_whole(trial)


def _reference(settings: TrialSettings, folder: Path, identity: Identity, contact: Contact) -> Reference | None:
    if identity.baseline is None:
        return None
    baseline = folder.parent.parent / "baselines" / identity.baseline
    return Reference(baseline, contact, epochs=settings.recipe.epochs)


def _resolve_weights(settings: TrialSettings, folder: Path) -> TrialSettings:
    if (key := start_key(settings.weights)) is None:
        return settings
    start = read_trial(folder.parent.parent / "baselines" / key)
    if problem := network_problem(start):
        raise WeightsError(problem)
    return settings.model_copy(update={"weights": str(start.folder / NETWORK_FILE)})
