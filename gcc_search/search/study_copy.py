"""Optuna's studies as people and optuna-dashboard read them: in a database, which is written and never read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError

from gcc_search.search.sampler import KNOWN_OPTUNA
from gcc_search.search.study_rows import write_begun, write_ended


def open_storage(url: str) -> BaseStorage:
    """Any SQLAlchemy URL; what is written there, optuna-dashboard can show."""
    return RDBStorage(url)


def open_own_storage(database: Path) -> BaseStorage:
    """A run's own study.db, in SQLite. A power cut may tear it: it can be made again, and waits for no disk."""
    storage = RDBStorage(f"sqlite:///{database}")
    # Those that made the tables; the next ones are told.
    storage.engine.dispose()
    event.listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return storage


class StudyCopy:
    """Keeps a study's trials in `storage`, where none of its name must be, in two steps: as one begins, as it ends.

    Raises:
        optuna.exceptions.StorageInternalError: the database refuses.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage) -> None:
        """`study` has names for its metrics."""
        assert study.metric_names is not None
        self._storage = storage
        copy = optuna.create_study(study_name=study.study_name, storage=storage, directions=study.directions)
        copy.set_metric_names(study.metric_names)
        self._study_id = storage.get_study_id_from_name(study.study_name)
        # By number: its id there, and the names of its attributes when it began.
        self._running: dict[int, tuple[int, frozenset[str]]] = {}

    def begin(self, trial: FrozenTrial) -> None:
        """Writes a trial that was asked for just now, as running."""
        with self._tables() as tables:
            if tables is not None:
                trial_id = write_begun(tables, self._study_id, trial)
            else:
                trial_id = self._storage.create_new_trial(self._study_id, trial)
        self._running[trial.number] = (trial_id, frozenset(trial.system_attrs))

    def end(self, trial: FrozenTrial) -> None:
        """Writes how a trial ended that was written as running."""
        trial_id, known = self._running.pop(trial.number)
        with self._tables() as tables:
            if tables is not None:
                write_ended(tables, trial_id, trial, known=known)
                return
        for name, value in trial.system_attrs.items():
            if name not in known:
                self._storage.set_trial_system_attr(trial_id, name, value)
        self._storage.set_trial_state_values(trial_id, trial.state, trial.values)

    @contextlib.contextmanager
    def _tables(self) -> Iterator[Connection | None]:
        """One transaction in Optuna's own tables; None where they may be others than we know."""
        if not (isinstance(self._storage, RDBStorage) and optuna.__version__.startswith(KNOWN_OPTUNA)):
            yield None
            return
        try:
            with self._storage.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageInternalError(str(error)) from error
