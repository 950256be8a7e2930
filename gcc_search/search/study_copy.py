"""Optuna's studies as people and optuna-dashboard read them: in a database, which is written and never read."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import optuna
import sqlalchemy
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from gcc_search.errors import DiskFullError, GccSearchError, ResultsError, SpaceError
from gcc_search.passwords import without_password
from gcc_search.patience import Contact, patiently
from gcc_search.search.sampler import KNOWN_OPTUNA
from gcc_search.search.study_rows import write_begun, write_ended

# What a database refuses, by itself or through Optuna.
_REFUSALS = (OptunaError, SQLAlchemyError)
# And what may be wrong before it is asked: no driver, a URL that is none, tables of another Optuna.
_MISTAKES = (*_REFUSALS, ImportError, LookupError, RuntimeError, ValueError)


def check_storage(url: str, *, new: Sequence[str] = ()) -> None:
    """Looks whether a database answers at `url`; makes none.

    Args:
        new: names of studies that are to be made there.

    Raises:
        SpaceError: it is no URL, its driver is missing, or nothing answers there; or it holds a study of a new name,
            which is another run's.
    """
    try:
        engine = sqlalchemy.create_engine(url)
        name = engine.url.database
        absent = Path(name) if engine.dialect.name == "sqlite" and name and not Path(name).exists() else None
        try:
            taken = _study_names(engine) & set(new)
        finally:
            engine.dispose()
            # SQLite makes the file that it opens.
            if absent is not None and absent.is_file() and not absent.stat().st_size:
                absent.unlink()
    except _MISTAKES as error:
        raise _refused(url, error) from None
    if taken:
        rule = "must hold no study of this name yet"
        raise SpaceError(
            f"--storage: {rule}, got {min(taken)}, another run's; choose another --name, or delete it there with "
            "optuna delete-study"
        )


def _study_names(engine: Engine) -> set[str]:
    if models.StudyModel.__tablename__ not in sqlalchemy.inspect(engine).get_table_names():
        return set()
    with engine.connect() as connection:
        return set(connection.scalars(sqlalchemy.select(models.StudyModel.study_name)))


def open_storage(url: str) -> BaseStorage:
    """Any SQLAlchemy URL; what is written there, optuna-dashboard can show.

    Raises:
        SpaceError: as `check_storage`, or its tables are those of another Optuna.
    """
    try:
        return RDBStorage(url)
    except _MISTAKES as error:
        raise _refused(url, error) from None


def open_own_storage(database: Path) -> BaseStorage:
    """A run's own study.db, in SQLite. A power cut may tear it: it can be made again, and waits for no disk."""
    # Optuna takes text alone: in it a folder's `?` is not the end of the name, nor braces Optuna's to fill in.
    storage = RDBStorage(URL.create("sqlite", database=str(database)).render_as_string())
    # Those that made the tables; the next ones are told.
    storage.engine.dispose()
    event.listen(storage.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return storage


@contextlib.contextmanager
def refusals_told(url: str | None) -> Iterator[None]:
    """What the database at `url`, or study.db, refuses in the body, as the line that a user reads.

    Raises:
        SpaceError, ResultsError: that.
    """
    try:
        yield
    except _REFUSALS as error:
        raise _refused(url, error) from None


def _refused(url: str | None, error: Exception) -> GccSearchError:
    if url is None:
        rule = "must be a database to write to"
        return ResultsError(f"study.db: {rule}, got: {_reason(error)}; free space or mend its disk, then resume")
    rule = "must be the SQLAlchemy URL of a database that answers"
    return SpaceError(f"--storage: {rule}, got {without_password(url)} ({_reason(error)}); correct it, or leave it out")


def _inner(error: Exception) -> BaseException:
    """What Optuna and SQLAlchemy wrap: the error of the database's driver."""
    inner = error.__cause__ or error
    found: BaseException = getattr(inner, "orig", None) or inner
    return found


def _reason(error: Exception) -> str:
    """The driver's own words, the first line of them."""
    words = str(_inner(error)).strip().splitlines()
    return words[0] if words else type(error).__name__


class StudyCopy:
    """Keeps a study's trials in `storage`, where none of its name must be, in two steps: as one begins, as it ends.

    Once the database refuses, that is told, and nothing more is written: no search ends for a copy of itself.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, tell: Callable[[str], None]) -> None:
        """`study` has names for its metrics. `tell` hears that the copy is given up.

        Raises:
            OptunaError, SQLAlchemyError: the database refuses from the beginning.
        """
        assert study.metric_names is not None
        self._storage, self._name, self._tell = storage, study.study_name, tell
        copy = optuna.create_study(study_name=study.study_name, storage=storage, directions=study.directions)
        copy.set_metric_names(study.metric_names)
        self._study_id = storage.get_study_id_from_name(study.study_name)
        # By number: its id there, and the names of its attributes when it began.
        self._running: dict[int, tuple[int, frozenset[str]]] = {}
        self._is_lost = False

    def begin(self, trial: FrozenTrial) -> None:
        """Writes a trial that was asked for just now, as running."""
        self._unless_lost(functools.partial(self._begin, trial))

    def end(self, trial: FrozenTrial) -> None:
        """Writes how a trial ended that was written as running."""
        self._unless_lost(functools.partial(self._end, trial))
        self._running.pop(trial.number, None)

    def _unless_lost(self, write: Callable[[], None]) -> None:
        if self._is_lost:
            return
        try:
            patiently(functools.partial(self._with_room, write), Contact(tell=self._tell))
        except (*_REFUSALS, DiskFullError) as error:
            self._is_lost = True
            self._tell(
                f"the study {self._name} is not kept in its database any more, which says: {_reason(error)}; the "
                "search goes on, and resume writes it anew"
            )

    def _with_room(self, write: Callable[[], None]) -> None:
        """`write`, which leaves nothing half-written; a disk that is full for SQLite is so as for all other files."""
        try:
            write()
        except _REFUSALS as error:
            if getattr(_inner(error), "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                told = f"database of the study {self._name}: disk must have room, got none; delete something there"
                raise DiskFullError(told) from None
            raise

    def _begin(self, trial: FrozenTrial) -> None:
        with self._tables() as tables:
            if tables is not None:
                trial_id = write_begun(tables, self._study_id, trial)
            else:
                trial_id = self._storage.create_new_trial(self._study_id, trial)
        self._running[trial.number] = (trial_id, frozenset(trial.system_attrs))

    def _end(self, trial: FrozenTrial) -> None:
        trial_id, known = self._running[trial.number]
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
        with self._storage.engine.begin() as connection:
            yield connection
