"""The studies of a database and their trials: one row each, written in one transaction.

What a trial was asked is written when it is asked, and its record with its state when it is told, each with a digest
(`asked_digest`, `told_digest`). A finished trial that is not as it was written counts as failed, without a record and
without parameters: the study goes on without it. Values and constraints are those of the
record. JSON is kept as text here; times are seconds since 1970 by the driver's clock, heartbeats by the database's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, fields
from time import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from vitsearch.errors import StudyDeleted
from vitsearch.storage.ledger.engine import at_once, database_now, shown
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.ledger.seals import digest_of, sealed, whole
from vitsearch.storage.ledger.tables import KEYS_AT_ONCE, study, study_attribute, trial

ENDED = ("COMPLETE", "PRUNED", "FAIL")
OPEN = ("RUNNING", "WAITING")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialRow:
    """A trial as it is stored. `fixed` are the parameters that it was enqueued with, `params` those that it has
    drawn, `notes` what the sampler has noted of it, `trains` the key of the weights that it may train."""

    number: int
    state: str
    started_at: float | None = None
    ended_at: float | None = None
    driver: str | None = None
    trains: str | None = None
    enqueued: str | None = None
    fixed: str | None = None
    params: str = "{}"
    notes: str = "{}"
    record: str | None = None


_COLUMNS = (*(trial.c[field.name] for field in fields(TrialRow)), trial.c.asked_digest, trial.c.told_digest)


def asked_digest(number: int, fixed: str | None, params: str, notes: str) -> str:
    """The digest of what a trial is asked."""
    return digest_of(number, fixed, params, notes)


def told_digest(number: int, state: str, record: str | None) -> str:
    """The digest of how a trial has ended."""
    return digest_of(number, state, record)


def is_as_written(row: TrialRow, asked: str, told: str | None) -> bool:
    """Whether a trial has these digests. That of its end is none while it is open."""
    end = told_digest(row.number, row.state, row.record) if row.state in ENDED else None
    return told == end and asked == asked_digest(row.number, row.fixed, row.params, row.notes)


@dataclass(frozen=True)
class StudyRow:
    """A study: its number in the database, and its objectives as JSON."""

    id: int
    name: str
    objectives: str


@again_when_cut
class StudyTable:
    """The studies of a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_once = at_once(engine)

    def names(self) -> list[str]:
        """In the order in which they were made."""
        with self._at_once.connect() as connection:
            query = select(study).order_by(study.c.id)
            return [row["name"] for row in whole(connection, query, study, shown(self._engine))]

    def find(self, name: str) -> StudyRow | None:
        with self._at_once.connect() as connection:
            rows = list(whole(connection, select(study).where(study.c.name == name), study, shown(self._engine)))
        return StudyRow(rows[0]["id"], name, rows[0]["objectives"]) if rows else None

    def add(self, name: str, objectives: Mapping[str, str]) -> None:
        """Make a study, unless another driver has."""
        try:
            with self._engine.begin() as connection:
                row = sealed(study, {"name": name, "objectives": json.dumps(objectives)})
                connection.execute(insert(study).values(row))
        except IntegrityError:
            if self.find(name) is None:
                raise


@again_when_cut
class TrialRows:
    """The trials and the attributes of one study."""

    def __init__(self, engine: Engine, study_id: int) -> None:
        self._engine = engine
        self._at_once = at_once(engine)
        self._study_id = study_id
        self._is_mine = trial.c.study == study_id
        # made once: to put a statement together takes longer than to run it
        is_from = and_(self._is_mine, trial.c.number >= bindparam("low"))
        self._states = select(trial.c.number, trial.c.state).where(is_from).order_by(trial.c.number)
        self._by_number = select(*_COLUMNS).where(and_(self._is_mine, trial.c.number == bindparam("of_number")))
        self._attributes = select(study_attribute).where(study_attribute.c.study == study_id)
        self._damaged: set[int] = set()

    # ---- attributes of the study

    def attributes(self) -> dict[str, str]:
        with self._at_once.connect() as connection:
            rows = whole(connection, self._attributes, study_attribute, shown(self._engine))
            return {row["name"]: row["value"] for row in rows}

    def attribute(self, name: str) -> str | None:
        with self._at_once.connect() as connection:
            return self._stored(connection, name)

    def change_attribute(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Replace an attribute by what `change` makes of it, and return that; no other driver can change it in
        between. `change` gets None where there is none."""
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            text = self._stored(connection, name)
            value = change(None if text is None else json.loads(text))
            row = sealed(study_attribute, {"name": name, "value": json.dumps(value)})
            if text is None:
                connection.execute(insert(study_attribute).values(row | {"study": self._study_id}))
            else:
                connection.execute(update(study_attribute).where(self._named(name)).values(row))
        return value

    def _stored(self, connection: Connection, name: str) -> str | None:
        query = select(study_attribute).where(self._named(name))
        rows = whole(connection, query, study_attribute, shown(self._engine))
        return next((row["value"] for row in rows), None)

    def _named(self, name: str) -> ColumnElement[bool]:
        return and_(study_attribute.c.study == self._study_id, study_attribute.c.name == name)

    # ---- reading trials

    def states(self, from_number: int) -> dict[int, str]:
        """The states of the trials from this number on."""
        with self._at_once.connect() as connection:
            return dict(connection.execute(self._states, {"low": from_number}).all())

    def read(self, numbers: Collection[int]) -> list[TrialRow]:
        """These trials, in one statement."""
        if not numbers:
            return []
        if len(numbers) == 1:
            with self._at_once.connect() as connection:
                return [self._row(row) for row in connection.execute(self._by_number, {"of_number": min(numbers)})]
        few = trial.c.number.in_(sorted(numbers)) if len(numbers) <= KEYS_AT_ONCE else trial.c.number >= min(numbers)
        query = select(*_COLUMNS).where(and_(self._is_mine, few)).order_by(trial.c.number)
        with self._at_once.connect() as connection:
            rows = [self._row(row) for row in connection.execute(query) if row.number in numbers]
        return rows

    def _row(self, stored: Row[Any]) -> TrialRow:
        """A row as a value. Of one that is not as it was written only the number is used."""
        *values, asked, told = tuple(stored)
        row = TrialRow(*values)
        if is_as_written(row, asked, told):
            return row
        if row.number not in self._damaged:
            self._damaged.add(row.number)
            where = f"storage {shown(self._engine)}: trial {row.number} in {trial.name}"
            logger.warning("%s was damaged or edited, for its digest is another; it counts as failed", where)
        return TrialRow(row.number, "FAIL")

    def records(self, read: Container[int]) -> list[tuple[int, str]]:
        """The number and the record of each finished trial that has one and is not among those that were `read`."""
        has_ended = and_(self._is_mine, trial.c.state.in_(ENDED), trial.c.record.is_not(None))
        with self._at_once.connect() as connection:
            numbers = connection.execute(select(trial.c.number).where(has_ended)).scalars()
            new = [number for number in numbers if number not in read]
            few = has_ended if len(new) > KEYS_AT_ONCE else and_(has_ended, trial.c.number.in_(new))
            query = select(*_COLUMNS).where(few).order_by(trial.c.number)
            rows = [self._row(row) for row in (connection.execute(query) if new else ()) if row.number not in read]
        return [(row.number, row.record) for row in rows if row.record is not None]

    def count(self, states: Collection[str]) -> int:
        query = select(func.count()).where(and_(self._is_mine, trial.c.state.in_(states)))
        with self._at_once.connect() as connection:
            return int(connection.execute(query).scalar_one())

    # ---- writing trials

    def start(self, driver: str, candidates: Sequence[int]) -> TrialRow:
        """The trial that `driver` runs next: the first of the `candidates` that waits, else a new one. It has its
        driver and a heartbeat from the start: a driver that is killed at any moment leaves none that nobody owns."""
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            number = self._first_waiting(connection, candidates[:KEYS_AT_ONCE]) if candidates else None
            running = {"state": "RUNNING", "driver": driver, "started_at": time(), "beat_at": database_now()}
            if number is None:
                number = self._add(connection, **running)
            else:
                connection.execute(update(trial).where(self._numbered(number)).values(running))
            return self._row(connection.execute(self._by_number, {"of_number": number}).one())

    def enqueue(self, fixed: str, why: str) -> None:
        """A trial that waits with these parameters."""
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            self._add(connection, state="WAITING", fixed=fixed, enqueued=why)

    def add(self, state: str, params: str, record: str) -> int:
        """A trial that has ended elsewhere; its number."""
        now = time()
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            return self._add(connection, state=state, started_at=now, ended_at=now, params=params, record=record)

    def write(self, number: int, params: str, notes: str, fixed: str | None = None) -> None:
        """What a trial was asked, which was enqueued with what is `fixed`."""
        asked = {"params": params, "notes": notes, "asked_digest": asked_digest(number, fixed, params, notes)}
        with self._at_once.begin() as connection:
            connection.execute(update(trial).where(self._numbered(number)).values(asked))

    def finish(self, number: int, state: str, record: str, ended_at: float) -> bool:
        """Write the record of a trial with its state; False, and nothing is written, where it has ended already. A
        second call with the same values (its first answer was lost) is true as well."""
        is_open = and_(self._numbered(number), trial.c.state.in_(OPEN))
        digest = told_digest(number, state, record)
        ending = {"state": state, "record": record, "told_digest": digest, "ended_at": ended_at}
        with self._at_once.begin() as connection:
            if connection.execute(update(trial).where(is_open).values(ending)).rowcount:
                return True
            same = select(trial.c.number).where(
                and_(self._numbered(number), trial.c.state == state, trial.c.record == record)
            )
            return connection.execute(same).first() is not None

    def release(self, number: int) -> bool:
        """Let a trial that runs wait again; False where it has ended."""
        is_open = and_(self._numbered(number), trial.c.state.in_(OPEN))
        with self._at_once.begin() as connection:
            return bool(connection.execute(update(trial).where(is_open).values(state="WAITING")).rowcount)

    def take_back(self, number: int, driver: str) -> bool:
        """Let a trial that runs wait again; False, and nothing is changed, where another driver runs it by now."""
        is_theirs = and_(self._numbered(number), trial.c.state == "RUNNING", trial.c.driver == driver)
        with self._at_once.begin() as connection:
            return bool(connection.execute(update(trial).where(is_theirs).values(state="WAITING")).rowcount)

    def stale(self, grace_s: float) -> dict[int, float]:
        """The trials that run and have given no sign of life for `grace_s`: when they gave the last one, in database
        time."""
        query = select(trial.c.number, trial.c.beat_at).where(self._is_stale(grace_s))
        with self._at_once.connect() as connection:
            return dict(connection.execute(query).all())

    def _is_stale(self, grace_s: float) -> ColumnElement[bool]:
        return and_(self._is_mine, trial.c.state == "RUNNING", trial.c.beat_at < database_now() - grace_s)

    def replace_stale(self, grace_s: float, numbers: Collection[int], fixed: Callable[[TrialRow], str]) -> list[int]:
        """End each of these trials that has given no sign of life for `grace_s`, and enqueue its parameters as a new
        one, in one transaction; the numbers of those that were ended."""
        is_stale = and_(self._is_stale(grace_s), trial.c.number.in_(sorted(numbers)[:KEYS_AT_ONCE]))
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            rows = list(map(self._row, connection.execute(select(*_COLUMNS).where(is_stale)).all()))
            for row in rows:
                lost = {"state": "FAIL", "told_digest": told_digest(row.number, "FAIL", None), "ended_at": time()}
                connection.execute(update(trial).where(self._numbered(row.number)).values(lost))
                self._add(connection, state="WAITING", fixed=fixed(row), enqueued=f"trial {row.number} was lost")
        return [row.number for row in rows]

    def claim(self, number: int, weights_key: str, most: int) -> bool:
        """Let a trial that runs train these weights, unless `most` others are those of trials that run, are complete,
        or wait to go on where a driver has left them. One driver decides at a time, so that together they never hold
        more. What the trial held itself does not count: under a changed file it has other weights. Of those that hold
        one and have not ended, where the file has fewer trainings now, the first go on and the others wait for them."""
        others = and_(trial.c.trains != weights_key, trial.c.number != number)
        with self._engine.begin() as connection:
            self._keep_others_out(connection)
            held = select(trial.c.trains).where(self._numbered(number))
            is_open: ColumnElement[bool] = trial.c.state.in_(OPEN)
            if connection.execute(held).scalar_one_or_none() is not None:
                is_open = and_(is_open, trial.c.number < number)
            holding = and_(self._is_mine, others, or_(is_open, trial.c.state == "COMPLETE"))
            if connection.execute(select(func.count(trial.c.trains.distinct())).where(holding)).scalar_one() >= most:
                return False
            runs = and_(self._numbered(number), trial.c.state == "RUNNING")
            return bool(connection.execute(update(trial).where(runs).values(trains=weights_key)).rowcount)

    def beat(self, numbers: Sequence[int]) -> None:
        """Say that these trials are alive."""
        if numbers:
            mine = and_(self._is_mine, trial.c.number.in_(numbers))
            with self._at_once.begin() as connection:
                connection.execute(update(trial).where(mine).values(beat_at=database_now()))

    def _first_waiting(self, connection: Connection, candidates: Sequence[int]) -> int | None:
        waits = and_(self._is_mine, trial.c.state == "WAITING", trial.c.number.in_(candidates))
        number: int | None = connection.execute(select(func.min(trial.c.number)).where(waits)).scalar()
        return number

    def _add(self, connection: Connection, **values: Any) -> int:
        """A trial with the next number."""
        last = connection.execute(select(func.max(trial.c.number)).where(self._is_mine)).scalar()
        number = 0 if last is None else int(last) + 1
        row = {"study": self._study_id, "number": number, "fixed": None, "params": "{}", "notes": "{}"} | values
        row["asked_digest"] = asked_digest(number, row["fixed"], row["params"], row["notes"])
        if row["state"] in ENDED:
            row["told_digest"] = told_digest(number, row["state"], row["record"])
        connection.execute(insert(trial).values(row))
        return number

    def _numbered(self, number: int) -> ColumnElement[bool]:
        return and_(self._is_mine, trial.c.number == number)

    def _keep_others_out(self, connection: Connection) -> None:
        """Until the transaction ends no other driver gets past this line. SQLite has no SELECT ... FOR UPDATE, so this
        writes what is there. Raises `StudyDeleted` where there is no such study any more."""
        own = update(study).where(study.c.id == self._study_id).values(id=self._study_id)
        if not connection.execute(own).rowcount:
            raise StudyDeleted("the study is no longer in its database: this run ends")
