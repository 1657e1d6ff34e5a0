"""What a database holds: its studies, and the files that its results name."""

from __future__ import annotations

import json
import sqlite3
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from vitsearch.core.decoding import damaged, decoded, expect
from vitsearch.core.stage import Stage
from vitsearch.errors import StudyError
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.columns import LAST_SECOND
from vitsearch.storage.ledger.engine import at_once, database_now
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.ledger.read_only import open_reader
from vitsearch.storage.ledger.rows import FILES_IN_DETAIL, RunState

_SUMMARY = """
SELECT s.name,
  CASE WHEN json_extract(t.record, '$.duplicate_of') IS NULL THEN t.state ELSE 'duplicate' END, COUNT(t.number)
FROM vs_study s LEFT JOIN vs_trial t ON t.study = s.id
GROUP BY s.name, 2 ORDER BY s.name
"""
"""Trials by state; those that repeat another trial for themselves, whatever their state."""
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
        rows = connection.execute(_SUMMARY).fetchall()
        ends = dict(connection.execute(_RUNS).fetchall())
    except sqlite3.DatabaseError as error:
        if "no such" in str(error):
            return None
        raise StudyError(f"{file}: {error}") from None
    finally:
        connection.close()
    states: dict[str, dict[str, int]] = {}
    for name, state, count in rows:
        states.setdefault(name, {})[state or ""] = count
    studies = [_summary(name, counts, ends.get(name)) for name, counts in states.items()]
    for study in studies:
        expect(StudySummary, study, f"{file}: studies")
        if not 0 <= (study.last_run or 0.0) <= LAST_SECOND:
            raise damaged(f"{file}: vs_run", f"seen_at is {study.last_run}, allowed: seconds since 1970")
    return studies


def _summary(name: str, counts: dict[str, int], last_run: float | None) -> StudySummary:
    still = sum(counts.get(state, 0) for state in ("RUNNING", "WAITING"))
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


def _state(stored: Any) -> RunState:
    """What a run has stored of what it does now."""
    return RunState() if stored is None else decoded(lambda value: RunState(**value), stored, "vs_run: now", RunState)


@again_when_cut
class Inventory:
    """The files that results name, and who makes more of them. Part of a ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_once = at_once(engine)

    def named_files(self) -> set[str]:
        """The digests of all files that a row names; a screened graph is deleted after its measurement."""
        is_kept = tables.artifact.c.kind != Stage.SCREEN.value
        artifacts = select(tables.artifact.c.sha256).where(is_kept)
        others = (select(tables.artifact.c.detail[name].as_string()).where(is_kept) for name in FILES_IN_DETAIL)
        checkpoints = select(tables.training.c.checkpoint_sha256)
        statistics = select(tables.block_structure.c.statistics_sha256)
        with self._at_once.connect() as connection:
            queries = (artifacts, *others, checkpoints, statistics)
            columns = [connection.execute(query).scalars() for query in queries]
            return {digest for digests in columns for digest in digests if digest is not None}

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
