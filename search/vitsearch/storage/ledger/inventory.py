"""What a database holds: its studies, and the files that its results name."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from vitsearch.core.decoding import damaged, decoded, expect
from vitsearch.core.decoding import shown as shown_value
from vitsearch.core.stage import Stage
from vitsearch.errors import StudyError
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.columns import LAST_SECOND
from vitsearch.storage.ledger.engine import at_once, database_now, shown
from vitsearch.storage.ledger.json_text import JsonText
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.ledger.read_only import open_reader
from vitsearch.storage.ledger.rows import RunState, artifact_files
from vitsearch.storage.ledger.seals import broken, is_whole, whole
from vitsearch.storage.ledger.trial_rows import OPEN, TrialRow, is_as_written

_TRIALS = """
SELECT study, json_extract(record, '$.duplicate_of') IS NOT NULL,
  number, state, fixed, params, notes, record, asked_digest, told_digest FROM vs_trial
"""
LIVE_S = 150.0
"""A run that has given no sign of life for so long has ended without a word; one is given every 30 s."""
_RUNS = "SELECT study, MAX(seen_at) FROM vs_run WHERE purpose = 'search' GROUP BY study"


@dataclass(frozen=True)
class StudySummary:
    """A study of a database. `models` are its trials with a result of their own, `open` those that run or
    wait; `last_run` is the end of its last run (seconds since 1970), None before there was one."""

    name: str
    trials: int
    models: int
    open: int
    last_run: float | None


def summaries(file: Path) -> list[StudySummary] | None:
    """The studies of a SQLite file, which is only read; None for a database of another program.

    Raises `StudyError` for what is no database that can be read.
    """
    connection = open_reader(file)
    try:
        connection.row_factory = sqlite3.Row
        names: dict[int, str] = {}
        for row in connection.execute("SELECT * FROM vs_study ORDER BY name"):
            if not is_whole(tables.study, row):
                raise broken(tables.study, row, str(file))
            names[row["id"]] = row["name"]
        states: dict[str, Counter[str]] = {name: Counter() for name in names.values()}
        for study, is_duplicate, *values, asked, told in connection.execute(_TRIALS):
            number, state, fixed, params, notes, record = values
            trial = TrialRow(number, state, fixed=fixed, params=params, notes=notes, record=record)
            if not is_as_written(trial, asked, told) or study not in names:
                raise damaged(f"{file}: trial {shown_value(number)} in vs_trial", "its digest is another")
            states[names[study]]["duplicate" if is_duplicate else state] += 1
        ends = dict(connection.execute(_RUNS).fetchall())
    except (sqlite3.DatabaseError, UnicodeError) as error:
        if "no such" in str(error):
            return None
        raise StudyError(f"{file}: {error}") from None
    finally:
        connection.close()
    studies = [_summary(name, counts, ends.get(name)) for name, counts in states.items()]
    for study in studies:
        expect(StudySummary, study, f"{file}: studies")
        if not 0 <= (study.last_run or 0.0) <= LAST_SECOND:
            raise damaged(f"{file}: vs_run", f"seen_at is {study.last_run}, allowed: seconds since 1970")
    return studies


def _summary(name: str, counts: Mapping[str, int], last_run: float | None) -> StudySummary:
    """Trials by state; those that repeat another trial count for themselves, whatever their state."""
    still = sum(counts.get(state, 0) for state in OPEN)
    return StudySummary(name, sum(counts.values()), counts.get("COMPLETE", 0), still, last_run)


@dataclass(frozen=True)
class FilesPlace:
    """Where the files of a database are: a folder, a URL, or empty for the folder beside it. `database` is the name
    under which it is noted there."""

    database: str
    address: str


@dataclass(frozen=True)
class LiveRun:
    """A run that goes on, since `started_at` (seconds since 1970). `purpose` is `search`, or `afterwards` for
    what is made of a study's models."""

    driver: DriverId
    purpose: str
    started_at: float
    now: RunState = RunState()

    def describe(self) -> str:
        """The run in words, such as `by ana on nano (pid 12) since 2026-11-29 18:00 UTC`."""
        since = datetime.fromtimestamp(self.started_at, UTC)
        return f"by {self.driver.user} on {self.driver.host} (pid {self.driver.pid}) since {since:%Y-%m-%d %H:%M} UTC"


def _state(stored: JsonText | None) -> RunState:
    """What a run has stored of what it does now."""
    value = None if stored is None else stored.value("vs_run: now")
    return RunState() if value is None else decoded(lambda state: RunState(**state), value, "vs_run: now", RunState)


def files_of(table: Table, row: Mapping[Any, Any], storage: str) -> tuple[str, ...]:
    """The digests of the files that a row names; a screened graph is deleted after its measurement."""
    if table is tables.artifact:
        where = f"storage {storage}: detail of {table.name} {row['artifact_key'][:12]}"
        return () if row["kind"] == Stage.SCREEN else artifact_files(row["sha256"], row["detail"].value(where))
    digest = row.get("checkpoint_sha256") or row.get("statistics_sha256")
    return () if digest is None else (digest,)


@again_when_cut
class Inventory:
    """The files that results name, and who makes more of them. Part of a ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_once = at_once(engine)

    def named_files(self) -> set[str]:
        """The digests of all files that a row names; a screened graph is deleted after its measurement."""
        storage = shown(self._engine)
        with self._at_once.connect() as connection:
            return {
                digest
                for table in (tables.artifact, tables.training, tables.block_structure)
                for row in whole(connection, select(table), table, storage)
                for digest in files_of(table, row, storage)
            }

    def files_place(self) -> FilesPlace | None:
        """Where the files of the database are; None before a run has stored any."""
        with self._at_once.connect() as connection:
            row = connection.execute(select(tables.files_place.c.database, tables.files_place.c.address)).first()
        return None if row is None else FilesPlace(*row)

    def adopt_files_place(self, address: str) -> FilesPlace:
        """Remember where the files are, unless that is known, and return it."""
        if place := self.files_place():
            return place
        mine = FilesPlace(uuid.uuid4().hex, address)
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(tables.files_place).values(one=1, **asdict(mine)))
        except IntegrityError:  # another driver was first
            return self.adopt_files_place(address)
        return mine

    def live_claims(self) -> int:
        """How many results a driver, here or on another machine, makes now."""
        query = select(func.count()).select_from(tables.claim).where(tables.claim.c.expires_at > database_now())
        with self._at_once.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def live_runs(self, study: str) -> list[LiveRun]:
        """The runs of a study that have not ended, oldest first, here and on other machines."""
        run, now = tables.run.c, database_now()
        is_open = run.ended_at.is_(None) & run.driver.is_not(None) & (run.seen_at > now - LIVE_S)
        query = (
            select(run.driver, run.purpose, run.started_at, run.now).where(run.study == study, is_open).order_by(run.id)
        )
        with self._at_once.connect() as connection:
            rows = connection.execute(query).all()
        runs = [
            LiveRun(DriverId.from_json(json.loads(driver)), purpose, started_at, _state(now))
            for driver, purpose, started_at, now in rows
        ]
        return [live_run for live_run in runs if not live_run.driver.is_dead_here()]

    def request_stop(self, study: str, who: str) -> None:
        """Request that the runs of a study stop, because `who` deletes it. Each ends at its next heartbeat."""
        run = tables.run.c
        with self._engine.begin() as connection:
            ending = update(tables.run).where(run.study == study, run.ended_at.is_(None)).values(told_to_end=who[:255])
            connection.execute(ending)
