"""A search's state from its trial directories: they are the truth, the Optuna study is rebuilt from them.

What ended is told to the study again, what did not goes on under the same id from its last good checkpoint, and the
rungs of early stopping are filled from the trials' rows. Ray's own snapshot is not used.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.study._frozen import FrozenStudy
from rich.console import Console
from rich.progress import track

from gcc_search.atomic import remove_tree
from gcc_search.errors import ResultsError, SpaceError
from gcc_search.patience import Contact
from gcc_search.results.reader import Run, Trial, find_damage, is_finished_whole, network_problem, read_run_record
from gcc_search.results.schema import NETWORK_FILE
from gcc_search.saying import say
from gcc_search.search.baselines import BaselineRows
from gcc_search.search.bucket_run import missing_files
from gcc_search.search.job_queue import JobQueue
from gcc_search.search.jobs import JobMaker
from gcc_search.search.readiness import Prepared
from gcc_search.search.retries import goes_on
from gcc_search.search.scheduler import SuccessiveHalving
from gcc_search.search.study import NetworkStudy, study_name, trial_name, trials_per_network
from gcc_search.search.study_copy import open_own_storage, open_storage, refusals_told
from gcc_search.settings import NetworkName
from gcc_search.space import SearchSpace
from gcc_search.storage.mirror import mirror_of

# A study's attribute: whose it is, where several runs keep theirs in one database.
OWNER = "run"
# How a trial ends for good; anything else goes on.
ENDED = ("finished", "stopped", "diverged", "collapsed", "failed")


def make_queue(prepared: Prepared, console: Console) -> JobQueue:
    """An empty queue over empty studies, which tells `console` what keeps it waiting.

    Studies of these names that were there before are replaced; in the database of --storage, those of this run.

    Raises:
        ResultsError: study.db cannot be replaced.
        SpaceError: the database of --storage refuses, or holds a study of such a name that is another run's.
    """
    space, run = prepared.space, prepared.run

    def tell(line: str) -> None:
        # Where the queue's own lines go, which is another place once there is a screen.
        queue.contact.tell(line)

    with refusals_told(prepared.options.storage):
        storage = _open_emptied(prepared)
        studies = {
            network: NetworkStudy(space, network, storage, cap=cap, tell=tell)
            for network, cap in trials_per_network(space).items()
        }
        for network in studies:
            study_id = storage.get_study_id_from_name(study_name(space, network))
            storage.set_study_user_attr(study_id, OWNER, _owner(run))
    fingerprints = {size: data.fingerprint for size, data in prepared.datasets.items()}
    maker = JobMaker(space=space, fingerprints=fingerprints, on_gpu=prepared.machines.num_gpus > 0)
    contact = Contact(tell=functools.partial(say, console))
    queue = JobQueue(space, run, maker, studies, contact, slots=prepared.machines.slots)
    return queue


def _open_emptied(prepared: Prepared) -> BaseStorage:
    """The database of the studies, which has none of their names."""
    space, database = prepared.space, prepared.run / "study.db"
    if prepared.options.storage is None:
        _remove(database)
        storage = open_own_storage(database)
    else:
        storage = open_storage(prepared.options.storage)
    names = [study_name(space, network) for network in space.networks]
    for study in storage.get_all_studies():
        if study.study_name in names:
            _check_own(study, prepared.run)
            optuna.delete_study(study_name=study.study_name, storage=storage)
    return storage


def _check_own(study: FrozenStudy, run: Path) -> None:
    """Raises SpaceError where a study is known to be another run's; older ones do not say whose they are."""
    owner = study.user_attrs.get(OWNER, _owner(run))
    if owner != _owner(run):
        rule = f"must hold no study {study.study_name} but this run's"
        raise SpaceError(f"--storage: {rule}, got that of the run of {owner}; name another database, or leave it out")


def _owner(run: Path) -> str:
    """What tells a run from all others of its name, wherever it is moved."""
    record = read_run_record(run)
    # A hash: the command may hold a password.
    command = hashlib.sha256(record.command.encode()).hexdigest()
    return f"{record.created} on {record.host} ({command[:8]})"


def _remove(database: Path) -> None:
    try:
        database.unlink(missing_ok=True)
    except OSError as error:
        raise ResultsError(f"{database}: must be a file to replace, got: {error.strerror}; remove it") from None


def make_scheduler(space: SearchSpace, run: Path) -> SuccessiveHalving | None:
    """Early stopping as the space asks for it."""
    return SuccessiveHalving(space, BaselineRows(run).rows_of) if space.early_terminate else None


def recall(prepared: Prepared, run: Run, console: Console) -> tuple[JobQueue, SuccessiveHalving | None]:
    """The queue and the rungs as they were, and a line for each file that was torn."""
    for problem in run.problems:
        say(console, f"not used: {problem}")
    for problem in _damage(run, console):
        say(console, f"damaged: {problem}")
    _remove_states(run, prepared.space)
    queue, scheduler = make_queue(prepared, console), make_scheduler(prepared.space, prepared.run)
    baselines = {key: found.record for key, found in run.baselines.items() if _has_ended(found, prepared.space)}
    # One that failed may have been mended since; what diverges does so again.
    whole = {key for key, record in baselines.items() if record.status != "failed" and _is_sound(run.baselines[key])}
    queue.lost = {key: baselines[key] for key in whole if baselines[key].status != "finished"}
    for network, number, trial in _in_order(prepared.space, run):
        if trial is None or not _has_ended(trial, prepared.space):
            queue.go_on_with(network, number, trial.record if trial else None)
        else:
            key = trial.record.baseline or ""
            queue.recall(trial.record, baselines.get(key), is_whole=key in whole)
        if scheduler and trial:
            _fill_rungs(scheduler, trial)
    ended = queue.num_ended
    to_begin = queue.num_trials - ended - queue.num_waiting
    rest = f", {to_begin} have not begun" if to_begin else ""
    say(console, f"resumed: {ended} of {queue.num_trials} trials have ended, {queue.num_waiting} go on{rest}")
    return queue, scheduler


def _in_order(space: SearchSpace, run: Run) -> Iterator[tuple[NetworkName, int, Trial | None]]:
    """Each network's trials by number; None for one whose record is missing or torn among others that are there."""
    by_name = {trial.folder.name: trial for trial in run.trials}
    folders = {folder.name for folder in (run.folder / "trials").glob("*/")}
    for network, cap in trials_per_network(space).items():
        asked = [number for number in range(cap) if trial_name(network, number) in folders]
        for number in range(max(asked, default=-1) + 1):
            yield network, number, by_name.get(trial_name(network, number))


def _damage(run: Run, console: Console) -> list[str]:
    """What is wrong with the files of finished networks. Their records are whole, so that nothing is trained again."""
    finished = [trial for trial in (*run.baselines.values(), *run.trials) if trial.record.status == "finished"]
    hidden = not console.is_terminal
    checked = track(finished, "checking finished networks", console=console, transient=True, disable=hidden)
    return [problem for trial in checked for problem in _damage_of(trial)]


def _damage_of(trial: Trial) -> Iterator[str]:
    if mirror_of(trial.folder) is not None and trial.record.role == "trial":
        yield from missing_files(trial)
        return
    yield from find_damage(trial)
    if not (trial.folder / NETWORK_FILE).exists() and (missing := network_problem(trial)):
        yield missing


def _is_sound(baseline: Trial) -> bool:
    return baseline.record.status != "finished" or is_finished_whole(baseline)


def _has_ended(trial: Trial, space: SearchSpace) -> bool:
    return trial.record.status in ENDED and not goes_on(trial.record, space)


def _remove_states(run: Run, space: SearchSpace) -> None:
    """Checkpoints of what ended: a kill can come between a record's last word and their removal."""
    for trial in (*run.baselines.values(), *run.trials):
        if _has_ended(trial, space):
            remove_tree(trial.folder / "checkpoint")


def _fill_rungs(scheduler: SuccessiveHalving, trial: Trial) -> None:
    try:
        rows = trial.epochs(["epoch", *scheduler.columns]).to_pylist()
    except ResultsError:
        # Torn, which is told elsewhere: of one that goes on, they come again.
        return
    record = trial.record
    for row in rows:
        seed = record.settings["seed"]
        scheduler.add(record.id, row, network=record.network, seed=seed, baseline=record.baseline)
