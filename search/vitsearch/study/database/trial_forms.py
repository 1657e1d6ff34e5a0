"""A trial as it is stored, and as Optuna knows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from vitsearch.core.decoding import decoded, parsed
from vitsearch.storage.ledger.trial_rows import Facts, TrialRow
from vitsearch.study.database.stored_forms import attribute_of_trial

Parameters = frozenset[tuple[str, Any]]

words_of = lru_cache(maxsize=None)(distribution_to_json)
"""A distribution as it is stored."""
_distribution = lru_cache(maxsize=None)(json_to_distribution)


def fixed(trial: FrozenTrial) -> Mapping[str, Any]:
    """The parameters that a trial has, or was enqueued with."""
    found: Mapping[str, Any] = trial.system_attrs.get("fixed_params", trial.params)
    return found


def comparable(values: Mapping[str, Any]) -> Parameters:
    """Parameters as a key: the same for numbers that differ by rounding errors alone."""
    return frozenset(
        (name, float(f"{value:.9g}") if isinstance(value, float) else value) for name, value in values.items()
    )


def frozen(row: TrialRow, storage: str = "") -> FrozenTrial:
    """A row of a database as Optuna knows a trial. Raises `Damaged`."""
    return decoded(_frozen, (row, storage), f"storage {storage}: trial {row.number}")


def _frozen(of: tuple[TrialRow, str]) -> FrozenTrial:
    row, storage = of
    known = row.facts
    distributions = {name: _distribution(words) for name, (_, words) in known.params.items()}
    return FrozenTrial(
        number=row.number,
        trial_id=row.trial_id,
        state=TrialState[row.state],
        value=None,
        values=[known.values[index] for index in sorted(known.values)] or None,
        datetime_start=local(row.started_at),
        datetime_complete=local(row.ended_at),
        params={name: distributions[name].to_external_repr(value) for name, (value, _) in known.params.items()},
        distributions=distributions,
        user_attrs=_attributes(known.user_attrs, row.number, storage),
        system_attrs=_attributes(known.system_attrs, row.number, storage),
        intermediate_values={},
    )


def _attributes(texts: Mapping[str, str], number: int, storage: str) -> dict[str, Any]:
    found = {}
    for name, text in texts.items():
        where = f"storage {storage}: {name} of trial {number}"
        found[name] = parsed(text, where)
        attribute_of_trial(name, found[name], where)
    return found


def facts_of(trial: FrozenTrial) -> Facts:
    """What a trial that is added as a whole has."""
    params = {
        name: (trial.distributions[name].to_internal_repr(value), words_of(trial.distributions[name]))
        for name, value in trial.params.items()
    }
    user = {key: json.dumps(value) for key, value in trial.user_attrs.items()}
    system = {key: json.dumps(value) for key, value in trial.system_attrs.items()}
    return Facts(params, user, system, dict(enumerate(trial.values or ())))


def local(time: datetime | None) -> datetime | None:
    """Optuna stores UTC and shows local time, both without a time zone."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def utc(time: datetime | None) -> datetime | None:
    """The other way round."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)
