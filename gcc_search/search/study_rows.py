"""Rows of Optuna's own tables, a few statements for a trial where its storage takes two dozen through objects.

That was nine tenths of what it cost to keep a study's copy, and a sixth of handing out a trial. The tables are those of
`models`, which a known version of Optuna makes, and reads.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, insert, update

Rows = list[dict[str, Any]]


def write_begun(connection: Connection, study_id: int, trial: FrozenTrial) -> int:
    """A trial that runs, under the number that it has; its id there."""
    row = {
        "study_id": study_id,
        "number": trial.number,
        "state": trial.state,
        "datetime_start": _in_utc(trial.datetime_start),
    }
    done = connection.execute(insert(models.TrialModel.__table__), row)
    assert done.inserted_primary_key is not None, "of one row"
    trial_id = int(done.inserted_primary_key[0])
    params: Rows = [
        {
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    ]
    _add(connection, models.TrialParamModel, trial_id, params)
    _add(connection, models.TrialUserAttributeModel, trial_id, _attributes(trial.user_attrs))
    _add(connection, models.TrialSystemAttributeModel, trial_id, _attributes(trial.system_attrs))
    return trial_id


def write_ended(connection: Connection, trial_id: int, trial: FrozenTrial, *, known: Collection[str]) -> None:
    """How a trial ended; of its system attributes those that were not `known` when it began."""
    table = models.TrialModel.__table__
    ended = {"state": trial.state, "datetime_complete": _in_utc(trial.datetime_complete)}
    connection.execute(update(table).where(table.c.trial_id == trial_id), ended)
    values: Rows = []
    for objective, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        values.append({"objective": objective, "value": stored, "value_type": kind})
    _add(connection, models.TrialValueModel, trial_id, values)
    _add(connection, models.TrialSystemAttributeModel, trial_id, _attributes(trial.system_attrs, but=known))


def _attributes(values: Mapping[str, Any], *, but: Collection[str] = ()) -> Rows:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in values.items() if key not in but]


def _add(connection: Connection, model: Any, trial_id: int, rows: Iterable[dict[str, Any]]) -> None:
    if with_ids := [row | {"trial_id": trial_id} for row in rows]:
        connection.execute(insert(model.__table__), with_ids)


def _in_utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)
