"""Optuna's own tables of trials, read in a few statements and written in one transaction.

Optuna's storage reads and writes a trial row by row, some 70 statements each. Here a trial is read with all others of
its study, and what is known of it is written at once. The tables stay as Optuna made them, so its API, its dashboard
and other samplers read the study as ever. Words are JSON as Optuna writes it, times are UTC.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from vitsearch.storage.ledger import optuna_tables
from vitsearch.storage.ledger.engine import at_once
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.ledger.tables import KEYS_AT_ONCE

_studies, _study_attributes = optuna_tables.studies, optuna_tables.study_user_attributes
_trials, _params, _values = optuna_tables.trials, optuna_tables.params, optuna_tables.values
_user_attrs, _system_attrs = optuna_tables.user_attributes, optuna_tables.system_attributes
_heartbeats = optuna_tables.heartbeats
_INFINITE = {float("inf"): "INF_POS", float("-inf"): "INF_NEG"}
_FROM_KIND = {kind: value for value, kind in _INFINITE.items()}
_ENDED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass
class Facts:
    """What is known of a trial, or is still to be written. `params` are internal values with their distribution."""

    params: dict[str, tuple[float, str]] = field(default_factory=dict)
    user_attrs: dict[str, str] = field(default_factory=dict)
    system_attrs: dict[str, str] = field(default_factory=dict)
    values: dict[int, float] = field(default_factory=dict)

    def has(self, some: Facts) -> bool:
        """Whether everything of `some` is here with the same value."""
        return all(vars(self)[name].items() >= known.items() for name, known in vars(some).items())


@dataclass(frozen=True)
class TrialRow:
    trial_id: int
    number: int
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    facts: Facts


@again_when_cut
class TrialRows:
    """The trials of one study."""

    def __init__(self, engine: Engine, study_id: int) -> None:
        self._engine = engine
        self._at_once = at_once(engine)
        self._study_id = study_id

    # ---- reading

    def attributes(self) -> dict[str, str]:
        """The user attributes of the study."""
        a = _study_attributes.c
        with self._at_once.connect() as connection:
            found = connection.execute(select(a.key, a.value_json).where(a.study_id == self._study_id))
            return dict(found.all())

    def attribute(self, name: str) -> str | None:
        """One user attribute of the study."""
        a = _study_attributes.c
        with self._at_once.connect() as connection:
            where = and_(a.study_id == self._study_id, a.key == name)
            return connection.execute(select(a.value_json).where(where)).scalar()

    def states(self, from_id: int) -> dict[int, str]:
        """The states of the trials with at least this id."""
        t = _trials.c
        query = select(t.trial_id, t.state).where(and_(t.study_id == self._study_id, t.trial_id >= from_id))
        with self._at_once.connect() as connection:
            return dict(connection.execute(query).all())

    def ended(self, key: str, known: Container[int]) -> list[tuple[int, str]]:
        """The number and the user attribute `key` of each finished trial whose number is not `known`."""
        t, a = _trials.c, _user_attrs.c
        has_ended = and_(t.study_id == self._study_id, t.state.in_(_ENDED))
        with self._at_once.connect() as connection:
            numbers = connection.execute(select(t.number).where(has_ended)).scalars()
            new = [number for number in numbers if number not in known]
            asked = select(t.number, a.value_json).join(_user_attrs, and_(a.trial_id == t.trial_id, a.key == key))
            asked = asked.where(has_ended if len(new) > KEYS_AT_ONCE else and_(has_ended, t.number.in_(new)))
            found = connection.execute(asked.order_by(t.number)) if new else ()
            return [(number, words) for number, words in found if number not in known]

    def count(self, states: Collection[str]) -> int:
        """How many trials have one of these states."""
        t = _trials.c
        query = select(func.count()).where(and_(t.study_id == self._study_id, t.state.in_(states)))
        with self._at_once.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def read(self, trial_ids: Collection[int]) -> list[TrialRow]:
        """These trials, by id. Five statements for every 500, and five for more than half of a study."""
        ids = sorted(trial_ids)
        if len(ids) > KEYS_AT_ONCE:
            wanted = set(ids)
            t = _trials.c
            of_study = select(t.trial_id).where(and_(t.study_id == self._study_id, t.trial_id >= ids[0]))
            return [row for row in self._read(of_study) if row.trial_id in wanted]
        return self._read(ids) if ids else []

    def _read(self, ids: Any) -> list[TrialRow]:
        facts: dict[int, Facts] = defaultdict(Facts)
        t, p, v = _trials.c, _params.c, _values.c
        with self._at_once.connect() as connection:
            query = select(t.trial_id, t.number, t.state, t.datetime_start, t.datetime_complete)
            trials = connection.execute(query.where(t.trial_id.in_(ids)).order_by(t.trial_id)).all()
            params = select(p.trial_id, p.param_name, p.param_value, p.distribution_json)
            for trial_id, name, value, words in connection.execute(
                params.where(p.trial_id.in_(ids)).order_by(p.param_id)
            ):
                facts[trial_id].params[name] = value, words
            values = select(v.trial_id, v.objective, v.value, v.value_type).where(v.trial_id.in_(ids))
            for trial_id, objective, value, kind in connection.execute(values):
                facts[trial_id].values[objective] = _FROM_KIND.get(kind, value)
            for table, name in ((_user_attrs, "user_attrs"), (_system_attrs, "system_attrs")):
                a = table.c
                attrs = select(a.trial_id, a.key, a.value_json).where(a.trial_id.in_(ids))
                for trial_id, key, value in connection.execute(attrs):
                    getattr(facts[trial_id], name)[key] = value
        return [TrialRow(*row, facts[row[0]]) for row in trials]

    # ---- writing

    def change_attribute(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Replace a user attribute of the study by what `change` makes of it, and return that; no other driver can
        change it in between. `change` gets None where there is none."""
        a = _study_attributes.c
        where = and_(a.study_id == self._study_id, a.key == name)
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            text = connection.execute(select(a.value_json).where(where)).scalar()
            value = change(None if text is None else json.loads(text))
            if text is None:
                row = {"study_id": self._study_id, "key": name, "value_json": json.dumps(value)}
                connection.execute(insert(_study_attributes).values(row))
            else:
                connection.execute(update(_study_attributes).where(where).values(value_json=json.dumps(value)))
        return value

    def create(self, state: str, facts: Facts, ended_at: datetime | None = None) -> TrialRow:
        """A new trial with the next number. One that runs has a heartbeat from the start: without one it is never found
        stale."""
        now = _now()
        started_at = None if state == "WAITING" else now
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            number = select(func.count()).select_from(_trials).where(self._is_study(_trials)).scalar_subquery()
            row = {"study_id": self._study_id, "state": state, "datetime_start": started_at}
            made = insert(_trials).values(number=number, datetime_complete=ended_at, **row)
            trial_id, given = connection.execute(made.returning(_trials.c.trial_id, _trials.c.number)).one()
            _write(connection, trial_id, facts)
            if state == "RUNNING":
                connection.execute(insert(_heartbeats).values(trial_id=trial_id, heartbeat=func.current_timestamp()))
        return TrialRow(trial_id, given, state, started_at, ended_at, facts)

    def claim(self, trial_id: int, key: str, value: str, most: int) -> bool:
        """Give a trial the user attribute `key`, unless `most` other values of it are held by trials that run, are
        complete, or wait to go on where a driver has left them. One driver decides at a time, so that together they
        never hold more."""
        a, t = _user_attrs.c, _trials.c
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            held = select(a.value_json).join(_trials, t.trial_id == a.trial_id).where(self._is_study(_trials))
            held = held.where(
                and_(a.key == key, t.state.in_(("RUNNING", "WAITING", "COMPLETE")), a.value_json != value)
            )
            if len(set(connection.execute(held).scalars())) >= most:
                return False
            _write(connection, trial_id, Facts(user_attrs={key: value}), [key])
        return True

    def write(self, trial_id: int, facts: Facts, replaced: Iterable[str] = ()) -> None:
        """Add to a trial; `replaced` are keys of attributes that it had before."""
        try:
            with self._engine.begin() as connection:
                _write(connection, trial_id, facts, replaced)
        except IntegrityError:  # a second try, where the first one's commit arrived and its answer did not
            (found,) = self.read([trial_id])
            if not found.facts.has(facts):
                raise

    def move(self, trial_id: int, state: str, facts: Facts, replaced: Iterable[str] = ()) -> datetime | None:
        """Write the rest of a trial and its new state, and return the time that is stored with it; None, and nothing
        is written, where the trial cannot have that state any more: it has ended, or runs elsewhere."""
        now, t = _now(), _trials.c
        before = ("WAITING",) if state == "RUNNING" else ("RUNNING", "WAITING")
        times: dict[str, Any] = {"datetime_start": now} if state == "RUNNING" else {"datetime_complete": now}
        changes = {"state": state} | ({} if state == "WAITING" else times)
        with self._engine.begin() as connection:
            where = and_(t.trial_id == trial_id, t.state.in_(before))
            if not connection.execute(update(_trials).where(where).values(**changes)).rowcount:
                return None
            _write(connection, trial_id, facts, replaced)
            if state == "RUNNING":
                _beat(connection, [trial_id])
        return now

    def take_back(self, trial_id: int, key: str, value: str) -> bool:
        """Let a trial that runs wait again; False, and nothing is changed, where its user attribute `key` has another
        value by now."""
        t, a = _trials.c, _user_attrs.c
        has_it = select(a.trial_id).where(and_(a.trial_id == trial_id, a.key == key, a.value_json == value))
        with self._at_once.begin() as connection:
            where = and_(t.trial_id == trial_id, t.state == "RUNNING", t.trial_id.in_(has_it))
            return bool(connection.execute(update(_trials).where(where).values(state="WAITING")).rowcount)

    def beat(self, trial_ids: Sequence[int]) -> None:
        """Say that these trials are alive."""
        if trial_ids:
            with self._at_once.begin() as connection:
                _beat(connection, trial_ids)

    def _keep_others_out(self, connection: Connection) -> None:
        """Until the transaction ends no other driver gets past this line. SQLite has no SELECT ... FOR UPDATE, so this
        writes what is there."""
        own = update(_studies).where(self._is_study(_studies)).values(study_id=self._study_id)
        connection.execute(own)

    def _is_study(self, table: Table) -> Any:
        return table.c.study_id == self._study_id


def names_of_studies(engine: Engine) -> list[str]:
    """The names of the studies of a database, in the order in which they were made."""
    with at_once(engine).connect() as connection:
        return list(connection.execute(select(_studies.c.study_name).order_by(_studies.c.study_id)).scalars())


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _beat(connection: Connection, trial_ids: Sequence[int]) -> None:
    h, now = _heartbeats.c, func.current_timestamp()
    for trial_id in trial_ids:
        if not connection.execute(update(_heartbeats).where(h.trial_id == trial_id).values(heartbeat=now)).rowcount:
            connection.execute(insert(_heartbeats).values(trial_id=trial_id, heartbeat=now))


def _write(connection: Connection, trial_id: int, facts: Facts, replaced: Iterable[str] = ()) -> None:
    if facts.params:
        rows = [
            {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": words}
            for name, (value, words) in facts.params.items()
        ]
        connection.execute(insert(_params), rows)
    for table, attrs in ((_user_attrs, facts.user_attrs), (_system_attrs, facts.system_attrs)):
        if old := sorted(attrs.keys() & set(replaced)):
            connection.execute(delete(table).where(and_(table.c.trial_id == trial_id, table.c.key.in_(old))))
        if attrs:
            connection.execute(insert(table), _attribute_rows(trial_id, attrs))
    if facts.values:
        connection.execute(insert(_values), _value_rows(trial_id, facts.values))


def _attribute_rows(trial_id: int, attrs: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"trial_id": trial_id, "key": key, "value_json": value} for key, value in attrs.items()]


def _value_rows(trial_id: int, values: Mapping[int, float]) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "objective": objective,
            "value": None if value in _INFINITE else value,
            "value_type": _INFINITE.get(value, "FINITE"),
        }
        for objective, value in values.items()
    ]
