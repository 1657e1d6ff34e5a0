"""A trial as it is stored, and as Optuna knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from vitsearch.core.decoding import damaged, decoded, expect, parsed
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import TrialRow
from vitsearch.study.knob_values import BY_FACTORS

Parameters = frozenset[tuple[str, Any]]
Words = Callable[[str], tuple[str, ...]]
"""The list of a parameter that is a word."""
FIXED = "fixed_params"
"""Where Optuna keeps the parameters that a trial was enqueued with."""


@dataclass(frozen=True)
class StoredTrial:
    """A trial of a database. `params` are what was drawn: a word, or a number with the bounds between which it was
    drawn; `fixed` what it was enqueued with, `notes` what the sampler has noted of it."""

    number: int
    state: TrialState
    started_at: float | None
    ended_at: float | None
    driver: DriverId | None
    trains: str | None
    enqueued: str | None
    fixed: Mapping[str, str | float] | None
    params: Mapping[str, str | list[float]]
    notes: Mapping[str, Any]
    record: str | None

    @cached_property
    def drawn(self) -> dict[str, Any]:
        """The parameters without their bounds."""
        return {name: value if isinstance(value, str) else value[0] for name, value in self.params.items()}

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters that a trial was enqueued with, or has drawn."""
        return self.drawn if self.fixed is None else self.fixed

    @property
    def wanted(self) -> dict[str, Any]:
        """The parameters that a trial keeps when it is asked again."""
        return {**(self.fixed or {}), **self.drawn}

    def distributions(self, words: Words) -> dict[str, BaseDistribution]:
        return {
            name: CategoricalDistribution(words(name)) if isinstance(value, str) else _between(name, *value)
            for name, value in self.params.items()
        }


def stored_trial(row: TrialRow, storage: str) -> StoredTrial:
    """A row of a database. Raises `Damaged`."""
    where = f"storage {storage}: trial {row.number}"
    params = parsed(row.params, f"{where}: params")
    expect(dict[str, str | list[float]], params, f"{where}: params")
    if any(isinstance(value, list) and len(value) != 3 for value in params.values()):
        raise damaged(f"{where}: params", "a number has not its value and two bounds")
    notes = parsed(row.notes, f"{where}: notes")
    expect(dict[str, Any], notes, f"{where}: notes")
    fixed = None if row.fixed is None else parsed(row.fixed, f"{where}: fixed")
    expect(dict[str, str | float] | None, fixed, f"{where}: fixed")
    driver = None
    if row.driver is not None:
        value = parsed(row.driver, f"{where}: driver")
        driver = decoded(DriverId.from_json, value, f"{where}: driver", DriverId)
    return StoredTrial(
        number=row.number,
        state=TrialState[row.state],
        started_at=row.started_at,
        ended_at=row.ended_at,
        driver=driver,
        trains=row.trains,
        enqueued=row.enqueued,
        fixed=fixed,
        params=params,
        notes=notes,
        record=row.record,
    )


def frozen(
    trial: StoredTrial,
    words: Words,
    values: list[float] | None,
    constraints: Mapping[str, float],
    user_attrs: Mapping[str, Any],
) -> FrozenTrial:
    """A trial as Optuna knows it. `values` and `constraints` are those of its record."""
    of_optuna = FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=trial.state,
        value=None,
        values=values,
        datetime_start=_time(trial.started_at),
        datetime_complete=_time(trial.ended_at),
        params=dict(trial.drawn),
        distributions=trial.distributions(words),
        user_attrs=dict(user_attrs),
        system_attrs=dict(trial.notes) | ({} if trial.fixed is None else {FIXED: dict(trial.fixed)}),
        intermediate_values={},
    )
    for name, value in constraints.items():
        of_optuna.set_constraint(name, value)
    return of_optuna


def drawn_params(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """The parameters of a trial of Optuna, as they are stored."""
    return {name: _with_bounds(value, distributions[name]) for name, value in params.items()}


def _with_bounds(value: Any, distribution: BaseDistribution) -> Any:
    return [value, distribution.low, distribution.high] if isinstance(distribution, FloatDistribution) else value


def comparable(values: Mapping[str, Any]) -> Parameters:
    """Parameters as a key: the same for numbers that differ by rounding errors alone."""
    return frozenset(
        (name, float(f"{value:.9g}") if isinstance(value, float) else value) for name, value in values.items()
    )


def _between(name: str, value: float, low: float, high: float) -> FloatDistribution:
    """The space file may have lost the number that a trial was enqueued with."""
    return FloatDistribution(min(low, value), max(high, value), name in BY_FACTORS)


def _time(seconds: float | None) -> datetime | None:
    """Optuna shows local time without a time zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds)
